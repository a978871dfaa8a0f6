"""Texts -> rows of tokens, for the text encoders: WordPiece for MiniLM, CLIP's byte pairs for Stable Diffusion.

    tokenizer = load_tokenizer("stable-diffusion-v1-5/tokenizer")
    tokenizer(["a photo of a cat"])                      # int32 [1, 77]
"""

from diffjax.text.clip_bpe import Tokenizer as Tokenizer
from diffjax.text.clip_files import CLIP_VOCABULARY as CLIP_VOCABULARY
from diffjax.text.clip_files import load_tokenizer as load_tokenizer
from diffjax.text.wordpiece import Tokens as Tokens
from diffjax.text.wordpiece import tokenize as tokenize
