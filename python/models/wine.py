"""polars splits a table into groups and sums each up."""

import os


class Summary:
    """What wines of the same cultivar have in common."""

    def initialize(self):
        # Not at the top: polars starts threads when it is imported, and those do not survive a fork.
        os.environ.setdefault("POLARS_MAX_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        import polars

        self.polars = polars

    def __call__(self, *, cultivar, alcohol):
        column = self.polars.col
        wines = self.polars.DataFrame({"cultivar": cultivar, "alcohol": alcohol})
        # A window: each wine beside the mean of its own cultivar.
        strong = column("alcohol") > column("alcohol").mean().over("cultivar")
        table = (
            wines.with_columns(strong=strong)
            .group_by("cultivar")
            .agg(
                wines=self.polars.len(),
                mean=column("alcohol").mean(),
                deviation=column("alcohol").std(),
                strong=column("strong").sum(),
            )
            .sort("cultivar")
        )
        return {series.name: series.to_numpy() for series in table}
