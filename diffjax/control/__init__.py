"""Attention control: what happens inside of attention, as an entry of the condition.

    attend = control.prompt_to_prompt(tokens, ["a red ring", "a blue ring"], [0, 0], until=t_c, self_until=t_s)
    model.sample(keys, 2, cond={"context": states, "attend": attend}, guidance_scale=3.0)

Each control is an `Attend`, a pytree `(site, q, k, v) -> out`. One that changes with time has `at(t) -> Attend`, so
that one program serves all steps. The null condition of guidance has no "attend", and so its half is never controlled.
"""

from diffjax.control.alignment import Split as Split
from diffjax.control.alignment import refine as refine
from diffjax.control.alignment import replace as replace
from diffjax.control.maps import attention_maps as attention_maps
from diffjax.control.maps import word_maps as word_maps
from diffjax.control.prompt_to_prompt import PromptToPrompt as PromptToPrompt
from diffjax.control.prompt_to_prompt import prompt_to_prompt as prompt_to_prompt
from diffjax.control.prompt_to_prompt import tokens_of_words as tokens_of_words
from diffjax.control.windows import time_after as time_after
