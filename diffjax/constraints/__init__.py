"""Sampler -> Sampler: what must see a step's noise, its times or its result."""

from diffjax.constraints.churn import Churn as Churn
