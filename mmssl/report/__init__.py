"""The report of a run: plain data in, one HTML page, PNG figures and a Markdown table out."""

from mmssl.report.content import (
    ActionProbe,
    Bars,
    Card,
    Localization,
    LocalizationRow,
    NeighbourRow,
    Overlay,
    PretextRow,
    ProbeScore,
    ReportContent,
    Spectrum,
    Stage,
    Strip,
    SubtitleExample,
)
from mmssl.report.history import read_metrics
from mmssl.report.markdown import results_markdown
from mmssl.report.page import write_report
from mmssl.report.pictures import write_pictures
from mmssl.report.results import action_probe, pretext_rows, read_spectra

__all__ = [
    "ActionProbe",
    "Bars",
    "Card",
    "Localization",
    "LocalizationRow",
    "NeighbourRow",
    "Overlay",
    "PretextRow",
    "ProbeScore",
    "ReportContent",
    "Spectrum",
    "Stage",
    "Strip",
    "SubtitleExample",
    "action_probe",
    "pretext_rows",
    "read_metrics",
    "read_spectra",
    "results_markdown",
    "write_pictures",
    "write_report",
]
