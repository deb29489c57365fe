"""How often an epoch shows each image, so that rare classes are seen more often: repeat-factor sampling.

The factors are those of LVIS (Gupta et al. 2019, section 3.4): r(c) = max(1, sqrt(t / f(c))) for a class c that a share
f(c) of the images shows, and of an image the largest r(c) of its classes. Factors are no whole numbers. Systematic
sampling (Madow 1949) rounds them, so that all epochs have the same number of draws: that makes the batch of a step a
function of seed and step alone.
"""

import numpy as np

from detect.data.examples import Examples


def repeat_factors(examples: Examples, threshold: float) -> np.ndarray:
    """How often each image is drawn in an epoch, on average: float64 [n], 1 or more.

    threshold: t, the share of images below which a class is rare. Crowd boxes show no class, as they are not learned.
    """
    shown = ~examples.crowd
    owners, classes = examples.owners[shown], examples.classes[shown].astype(np.int64)
    factors = np.ones(len(examples))
    if not len(classes):
        return factors
    pairs = np.unique(np.stack([owners, classes]), axis=1)  # an image counts once for a class
    shares = np.bincount(pairs[1]) / len(examples)
    np.maximum.at(factors, pairs[0], np.sqrt(threshold / shares[pairs[1]]))
    return factors


def draws(factors: np.ndarray) -> int:
    """The number of draws of an epoch."""
    return int(np.ceil(factors.sum() - 1e-9))


def repeated(factors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The draws of an epoch in random order, int64 [draws]: the k-th repetition of image i is i + k * n.

    Every image comes once, or more often: its factor, rounded up or down at random.
    """
    n, total = len(factors), draws(factors)
    mixed = generator.permutation(n)
    ends = np.cumsum(factors[mixed])
    ends *= total / ends[-1]
    steps = np.concatenate([[0], np.floor(ends + generator.random()).astype(np.int64)])
    steps[-1] = total
    counts = np.diff(steps)
    images = np.repeat(mixed, counts)
    repetition = np.arange(total) - np.repeat(steps[:-1], counts)
    order: np.ndarray = generator.permutation(images + repetition * n)
    return order
