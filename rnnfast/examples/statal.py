"""Has this pattern appeared before? Neurons that remember what they have seen, against an RNN, an LSTM and a GRU.

A sequence is noise of eight symbols. Somewhere in half of the sequences stands a pattern: symbol 0, followed by symbol 1. The rest contain as many zeros and ones, never
in this order side by side. At the end of the sequence, hundreds of steps later, the question is: has the pattern appeared?

A network that is trained on the answer alone must carry one bit over the whole gap, and back-propagation must carry the blame as far back. Statal neurons hold what they
have seen until they fire again; where they do not fire, their state and its gradient pass unchanged.

Run it with ``python -m rnnfast.examples.statal`` (``--quick`` for a smaller version).
"""
