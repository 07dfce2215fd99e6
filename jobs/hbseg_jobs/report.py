"""The step report: one HTML file about a run.

It tells when steps ended, so the marker lists it as a record: a report never makes a later result
stale.
"""

from __future__ import annotations

from hbseg.config.specs import ReportSpec
from hbseg.report.build import build_report
from hbseg.runs.results import REPORT
from hbseg.storage.markers import sha256_of
from hbseg_jobs.entry import StepContext, run_step


def work(context: StepContext) -> None:
    """Write the report and the marker."""
    spec = context.spec(ReportSpec)
    digests = context.task.input_digests()
    page = build_report(
        context.run.name,
        {item.name: item.folder for item in context.task.inputs},
        context.data,
        context.work,
        pictures=spec.pictures,
    )
    context.task.folder.put(REPORT, page)
    context.finish({}, records={REPORT: sha256_of(page)}, inputs=digests)


def main() -> None:
    """Run the step and exit with its code."""
    run_step(work)


if __name__ == "__main__":
    main()
