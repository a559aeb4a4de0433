"""Long memory: two tasks that need what was read hundreds of steps ago, and the gradients that say who can learn them.

Adding (Hochreiter and Schmidhuber 1997): a sequence of random numbers, two of which are marked; the answer at the end is their sum. Whoever always answers 1
has a mean squared error of 2/12 = 0.1667. Copying (in the form of Arjovsky, Shah and Bengio 2016): a few symbols, a long silence, then a sign to repeat them;
the loss looks at the last outputs alone (`loss_steps`).

A gradient has to come back from the answer to the marks. In a SimpleRNN it passes through as many products with the recurrent kernel and slopes of tanh as
there are steps; LSTM and GRU let it pass through gates, if they stand open. With `chrono` biases (Tallec and Ollivier 2018) they begin so that units
remember for times between one step and the whole sequence; with Keras' forget bias of 1 the gradient of an LSTM is lost after a hundred steps as well.
"""

from __future__ import annotations

import numpy as np

from rnnfast import Input, Sequential, diagnostics, layers
from rnnfast.examples._run import main
from rnnfast.losses import SparseCategoricalCrossentropy
from rnnfast.optimizers import Adam
from rnnfast.utils import set_random_seed

UNITS, BATCH, SYMBOLS = 32, 32, 8
CELLS = {"SimpleRNN": layers.SimpleRNN, "LSTM": layers.LSTM, "GRU": layers.GRU}
RATES = {"SimpleRNN": 0.003, "LSTM": 0.01, "GRU": 0.01}


def adding(count: int, time: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sequences [count, time, 2] of numbers in [0, 1) and marks, one in either half, and the sums [count, 1] of the marked numbers."""
    numbers, marks, row = rng.random((count, time)), np.zeros((count, time)), np.arange(count)
    first, second = rng.integers(0, time // 2, count), rng.integers(time // 2, time, count)
    marks[row, first] = marks[row, second] = 1
    return np.stack([numbers, marks], axis=-1).astype(np.float32), (numbers[row, first] + numbers[row, second])[:, None].astype(np.float32)


def copying(count: int, length: int, delay: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One-hot sequences [count, delay + 2 length, SYMBOLS + 2]: symbols, silence (0), the sign to repeat, silence; and what to answer at each step."""
    time = delay + 2 * length
    heard, answer = np.zeros((count, time), np.int64), np.zeros((count, time), np.int64)
    heard[:, :length] = answer[:, -length:] = rng.integers(1, SYMBOLS + 1, (count, length))
    heard[:, -length - 1] = SYMBOLS + 1
    return np.eye(SYMBOLS + 2, dtype=np.float32)[heard], answer


def make(cell: str, time: int, inputs: int, outputs: int, units: int, sequences: bool, chrono: bool = True) -> Sequential:
    """A recurrent layer and a Dense layer. With `chrono`, gates begin open for log-uniform times up to the sequence's length."""
    set_random_seed(0)
    layer = CELLS[cell](units, return_sequences=sequences, name=cell if chrono else f"{cell}, forget bias 1")
    model = Sequential([Input((None, inputs)), layer, layers.Dense(outputs)])
    open_for = np.log(np.random.default_rng(0).uniform(1, time - 1, units))
    weights = layer.get_weights()
    if chrono and cell == "LSTM":  # gates i, f, c, o
        weights[2][:units], weights[2][units : 2 * units] = -open_for, open_for
    elif chrono and cell == "GRU":  # z, which keeps the state; the first row of two
        weights[2][0, :units] = open_for
    layer.set_weights(weights)
    loss = SparseCategoricalCrossentropy(from_logits=True) if sequences else "mse"
    model.compile(Adam(RATES[cell], global_clipnorm=1.0), loss, loss_steps=5 if sequences else None)
    return model


def train_adding(cell: str, time: int, steps: int) -> tuple[Sequential, float]:
    """A trained model and its mean squared error on 1000 new sequences."""
    model = make(cell, time, 2, 1, UNITS, sequences=False)
    model.fit(*adding(steps * BATCH, time, np.random.default_rng(1)), batch_size=BATCH, verbose=0)
    return model, float(model.evaluate(*adding(1000, time, np.random.default_rng(2)), verbose=0))


def train_copying(cell: str, delay: int, steps: int, units: int, length: int = 5) -> float:
    """The share of symbols that a trained model repeats rightly, of 500 new sequences."""
    model = make(cell, delay + 2 * length, SYMBOLS + 2, SYMBOLS + 1, units, sequences=True)
    model.fit(*copying(steps * 2 * BATCH, length, delay, np.random.default_rng(1)), batch_size=2 * BATCH, verbose=0)
    x, answer = copying(500, length, delay, np.random.default_rng(2))
    found = model.predict(x, verbose=0).argmax(-1)
    return float((found[:, -length:] == answer[:, -length:]).mean())


def flows(models: list[Sequential], time: int) -> list[diagnostics.GradientFlow]:
    """How the gradient of the answer goes back through time."""
    x, y = adding(64, time, np.random.default_rng(3))
    return [diagnostics.gradient_flow(model, x, y) for model in models]


def picture(before: list[diagnostics.GradientFlow], after: list[diagnostics.GradientFlow], time: int, path: str) -> None:
    """Draw the gradients through time before and after training."""
    from rnnfast.diagnostics.pictures import finish, new_figure

    figure = new_figure(9, 3.6)
    for axes, found, title in zip(figure.subplots(1, 2, sharey=True), (before, after), ("before training", "after training"), strict=True):
        for flow in found:
            flow.plot(axes=axes)
        axes.set(title=f"adding, T = {time}: {title}", ylim=(1e-16, 1))
    finish(figure, path)
    print(f"Picture: {path}")


def run(quick: bool = False, plot: str | None = None) -> dict[str, float]:
    """Train every cell on both tasks; returns the scores."""
    times = {50: 400} if quick else {100: 900, 400: 900}  # steps of training
    scores = {"adding_constant": 2 / 12}
    trained: list[Sequential] = []
    print(f"Adding: mean squared error on 1000 new sequences; always answering 1 has {2 / 12:.4f}")
    for time, steps in times.items():
        trained = []
        for cell in CELLS:
            model, scores[f"adding_{time}_{cell}"] = train_adding(cell, time, steps)
            trained.append(model)
            print(f"  T = {time:<4}{cell:<10}{scores[f'adding_{time}_{cell}']:8.4f}   after {steps * BATCH} sequences")
    longest = max(times)
    fresh = [make(cell, longest, 2, 1, UNITS, sequences=False) for cell in CELLS]
    fresh.append(make("LSTM", longest, 2, 1, UNITS, sequences=False, chrono=False))
    before, after = flows(fresh, longest), flows(trained, longest)
    print(f"\nGradient of the answer, early steps over late ones, T = {longest}")
    for title, found in (("before", before), ("after", after)):
        for flow in found:
            print(f"  {title:<8}{flow.layers[0].name:<22}{flow.layers[0].ratio:9.1e}  {flow.verdict}")
    for flow in after:
        scores[f"gradient_{flow.layers[0].name}"] = flow.layers[0].ratio
    if plot:
        picture(before, after, longest, plot)

    delay, steps, units = (6, 150, 32) if quick else (30, 1600, 64)
    print(f"\nCopying 5 of {SYMBOLS} symbols after {delay} steps of silence: repeated rightly; guessing has {1 / SYMBOLS:.3f}")
    for cell in CELLS:
        scores[f"copying_{cell}"] = train_copying(cell, delay, steps, units)
        print(f"  {cell:<10}{scores[f'copying_{cell}']:7.3f}   after {steps * 2 * BATCH} sequences")
    print("  (A SimpleRNN copies well: an orthogonal recurrent kernel turns its state without shrinking it, and nothing has to be left out.)")
    return scores


if __name__ == "__main__":
    main(run)
