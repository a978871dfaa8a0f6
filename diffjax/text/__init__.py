"""Texts -> rows of tokens, for the text encoders: WordPiece for MiniLM, CLIP's byte pairs for Stable Diffusion.

    tokenizer = load_tokenizer("stable-diffusion-v1-5/tokenizer")
    tokenizer(["a photo of a cat"])                      # int32 [1, 77]
    chunk_prompts(tokenizer, ["a (red:1.3) fox", ""])    # ids and weights [2, chunks, 77]

`chunk_prompts` takes texts of any length.
"""

from diffjax.text.clip_bpe import Tokenizer as Tokenizer
from diffjax.text.clip_files import CLIP_VOCABULARY as CLIP_VOCABULARY
from diffjax.text.clip_files import load_tokenizer as load_tokenizer
from diffjax.text.clip_writing import save_tokenizer as save_tokenizer
from diffjax.text.prompts import Prompt as Prompt
from diffjax.text.prompts import chunk_prompt as chunk_prompt
from diffjax.text.prompts import chunk_prompts as chunk_prompts
from diffjax.text.prompts import parse_prompt as parse_prompt
from diffjax.text.prompts import weigh as weigh
from diffjax.text.wordpiece import Tokens as Tokens
from diffjax.text.wordpiece import tokenize as tokenize
