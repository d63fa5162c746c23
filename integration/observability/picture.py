"""The panels of the dashboard drawn from what Prometheus answers: Grafana itself is not to be had everywhere."""
import datetime

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plot


def draw(dashboard, ask, file):
    chosen = [panel for panel in dashboard["panels"] if panel["type"] == "timeseries"]
    chosen = [panel for panel in chosen if any(ask(target["expr"]) for target in panel["targets"])][:9]
    plot.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3})
    figure, places = plot.subplots(3, 3, figsize=(13, 8), constrained_layout=True)
    for panel, place in zip(chosen, places.flat):
        scale, unit = {"s": (1000, "ms"), "percentunit": (100, "%")}.get(panel["fieldConfig"]["defaults"]["unit"], (1, ""))
        for target in panel["targets"]:
            for serie in ask(target["expr"])[:8]:
                legend = target["legendFormat"]
                for name, value in serie["metric"].items():
                    legend = legend.replace("{{" + name + "}}", value)
                times = [datetime.datetime.fromtimestamp(at) for at, _ in serie["values"]]
                values = [float(value) * scale for _, value in serie["values"]]
                place.plot(times, values, label=legend, linewidth=1.5)
        place.set_title(panel["title"], loc="left", fontsize=9, fontweight="bold")
        place.set_ylabel(unit)
        place.set_ylim(bottom=0)
        place.tick_params(axis="x", labelrotation=0)
        place.xaxis.set_major_locator(plot.MaxNLocator(4))
        place.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M:%S"))
        place.legend(frameon=False, fontsize=7, loc="upper left")
    for place in places.flat[len(chosen):]:
        place.axis("off")
    figure.savefig(file, dpi=110)
