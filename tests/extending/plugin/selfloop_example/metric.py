"""A metric: how far the medians have moved."""

from selfloop.metrics import Metric

median_error = Metric(
    name="median_error",
    title="Median error",
    definition="Euclidean distance between the coordinatewise medians of the generated and of the real training rows.",
    goal="lower",
    version=1,
    unit="model units",
    compute=lambda e: (
        (e.generated.flatten(2).double().median(1).values - e.train.flatten(2).double().median(1).values)
        .square()
        .sum(1)
        .sqrt()
    ),
)
