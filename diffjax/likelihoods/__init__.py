"""log p(x) by the probability-flow ODE (`ode`), its variational bound (`elbo`), and the probes of traces (`probes`)."""

from diffjax.likelihoods.elbo import ELBO as ELBO
from diffjax.likelihoods.elbo import discretised_gaussian as discretised_gaussian
from diffjax.likelihoods.elbo import gaussian_density as gaussian_density
from diffjax.likelihoods.elbo import level_softmax as level_softmax
from diffjax.likelihoods.ode import Estimate as Estimate
from diffjax.likelihoods.ode import bits_per_dim as bits_per_dim
from diffjax.likelihoods.ode import estimate as estimate
from diffjax.likelihoods.ode import log_likelihood as log_likelihood
from diffjax.likelihoods.probes import Exact as Exact
from diffjax.likelihoods.probes import Gaussian as Gaussian
from diffjax.likelihoods.probes import Probes as Probes
from diffjax.likelihoods.probes import Rademacher as Rademacher
