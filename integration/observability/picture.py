"""Panels of the dashboard, drawn from what Prometheus answers: Grafana itself is not to be had everywhere."""

from datetime import datetime

import matplotlib

matplotlib.use("Agg")
from matplotlib import dates, pyplot

CHOSEN = [
    "Calls by outcome", "Refusals by code", "Calls over a limit",
    "What the sidecar takes", "By stage, p99", "Services",
    "Permitted, and failed", "Told to others", "Decision log",
]
NOTE = "Panels of deploy/grafana/outrider.json, drawn by integration/observability/run from what a real Prometheus answered. Not Grafana, and no measurement: times are those of the build and machine of that run."
UNITS = {"s": (1000, "ms"), "percentunit": (100, "%"), "reqps": (1, "calls/s"), "ops": (1, "1/s"), "bytes": (1 / 1024, "KiB")}


def draw(dashboard, ask, file):
    """`ask` answers a query of a panel with the series of a range."""
    panels = {panel["title"]: panel for panel in dashboard["panels"] if panel["type"] == "timeseries"}
    pyplot.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3})
    figure, places = pyplot.subplots(3, 3, figsize=(14, 9), layout="constrained")
    for title, place in zip(CHOSEN, places.flat, strict=True):
        draw_panel(panels[title], ask, place)
    figure.suptitle("Outrider", x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(NOTE, x=0.01, ha="left", fontsize=7, color="grey")
    figure.savefig(file, dpi=100)


def draw_panel(panel, ask, place):
    scale, unit = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], (1, ""))
    for target in panel["targets"]:
        for series in ask(target["expr"]):
            times = [datetime.fromtimestamp(at) for at, _ in series["values"]]
            place.plot(times, [float(value) * scale for _, value in series["values"]], label=named(target["legendFormat"], series), linewidth=1.4)
    place.set_title(panel["title"], loc="left", fontsize=9, fontweight="bold")
    place.set_ylabel(unit)
    place.set_ylim(bottom=0)
    place.xaxis.set_major_locator(dates.MinuteLocator())
    place.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    place.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), handlelength=1)


def named(legend, series):
    for label, value in series["metric"].items():
        legend = legend.replace("{{" + label + "}}", value)
    return legend.replace("_other", "other")  # a leading line would keep it out of the legend
