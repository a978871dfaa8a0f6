"""Texts -> rows of tokens, for the text encoders."""

from diffjax.text.wordpiece import Tokens as Tokens
from diffjax.text.wordpiece import tokenize as tokenize
