"""Models of the usual shapes, ready to compile: thin functions that read like a page of a textbook.

All take ``cell=``, ``units=``, ``layers=``, ``bidirectional=`` and ``dropout=``.
"""

from rnnfast.builders._stack import recurrent_stack
from rnnfast.builders.captioner import Captioner, captioner
from rnnfast.builders.conv_gru import conv_gru
from rnnfast.builders.ctc_recognizer import CTCRecognizer, ctc_recognizer
from rnnfast.builders.encoder_decoder import EncoderDecoder, encoder_decoder
from rnnfast.builders.forecaster import Forecaster, forecaster
from rnnfast.builders.language_model import LanguageModel, language_model
from rnnfast.builders.sequences import many_to_many, many_to_one, one_to_many

__all__ = [
    "CTCRecognizer",
    "Captioner",
    "EncoderDecoder",
    "Forecaster",
    "LanguageModel",
    "captioner",
    "conv_gru",
    "ctc_recognizer",
    "encoder_decoder",
    "forecaster",
    "language_model",
    "many_to_many",
    "many_to_one",
    "one_to_many",
    "recurrent_stack",
]
