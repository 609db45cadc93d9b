"""The words and tables of the report: results in, Markdown out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

Result = dict[str, Any]
BLOCKS = "▁▂▃▄▅▆▇█"
CYCLICAL_BETA = 1.5
STEADY_BETA = 0.5


def summary(analysis: Result, validation: Result, enrichment: Result) -> str:
    """Return two sentences for a reader who reads nothing else."""
    fall = analysis["fall"]
    back = f"and came back by {fall['recovered_month']}" if fall["recovered_month"] else "and has not come back"
    return (
        f"Between {analysis['first_month']} and {analysis['last_month']} nonfarm employment grew by "
        f"{analysis['growth_percent']} % to {_millions(analysis['last_jobs'])} million jobs. "
        f"On the way it lost {_millions(fall['jobs_lost'])} million jobs ({fall['percent']} %), {back}."
    )


def findings(analysis: Result, validation: Result, enrichment: Result) -> list[str]:
    """Return the key findings, each one sentence with its figures."""
    fall, sectors = analysis["fall"], analysis["sectors"]
    shrunk = [row for row in sectors if row["change"] < 0]
    most, least = enrichment["sectors"][0], enrichment["sectors"][-1]
    return [
        f"Employment peaked in {fall['peak_month']}, bottomed {fall['months_down']} months later in {fall['trough_month']}"
        + (f", and needed {fall['months_up']} months to pass the old peak." if fall["months_up"] else "."),
        f"Over the last 24 months it rose by {analysis['trend_jobs_per_month']} thousand jobs a month; "
        f"a straight line explains {_percent(analysis['trend_explained'])} of the course.",
        f"{sectors[0]['sector']} grew most ({sectors[0]['growth_percent']:+} %), {sectors[-1]['sector']} least "
        f"({sectors[-1]['growth_percent']:+} %); {len(shrunk)} of {len(sectors)} sectors ended below where they began.",
        f"{most['sector']} moves most with the cycle (beta {most['beta']}), {least['sector']} least (beta {least['beta']}).",
        f"The calendar month explains {_percent(analysis['seasonal_explained'])} of the monthly changes, where chance alone would give "
        f"{_percent(analysis['seasonal_by_chance'])}: "
        + ("the seasonal adjustment left no pattern." if _is_adjusted(analysis) else "a seasonal pattern is left."),
        f"{_percent(validation['quality_score'])} of {len(validation['checks'])} data checks passed; "
        f"the largest gap between a total and its parts is {validation['largest_gap']} thousand jobs (rounding).",
    ]


def watch_list(analysis: Result, validation: Result, enrichment: Result) -> list[str]:
    """Return what a reader of these figures should keep in mind."""
    lines = [
        f"{row['sector']} in {row['month']} ({row['change']:+} thousand) was undone within months: leave it out of trends."
        for row in validation["outliers"]
        if row["kind"] == "one-off"
    ]
    shrunk = [row["sector"] for row in reversed(analysis["sectors"]) if row["change"] < 0]
    if shrunk:
        lines.append(f"Still below the level of {analysis['first_month']}: {', '.join(shrunk)}.")
    cyclical = [row["sector"] for row in enrichment["sectors"] if row["beta"] >= CYCLICAL_BETA]
    if cyclical:
        lines.append(f"Likely to fall first and furthest in a downturn: {', '.join(cyclical)}.")
    lines += [f"Data check failed: {name}." for name, passed in validation["checks"].items() if not passed]
    lines += [f"Row left out: {problem}." for problem in validation["problems"]]
    return lines


def markdown(synthesis: Result, analysis: Result, validation: Result, enrichment: Result) -> str:
    """Return the whole report."""
    sections = [
        f"# United States labour market, {analysis['first_month']} to {analysis['last_month']}",
        synthesis["executive_summary"],
        "## Key findings",
        _bullets(synthesis["key_findings"]),
        "## Year by year",
        _sparkline(analysis["years"]),
        _year_table(analysis["years"]),
        "## Sectors by growth",
        _sector_table(analysis["sectors"]),
        "## Sectors and the business cycle",
        _cycle_table(enrichment),
        "## Changes that stand out",
        _outlier_table(validation["outliers"]),
        "## To keep in mind",
        _bullets(synthesis["watch_list"]),
        "## Data quality",
        _bullets(f"{'passed' if passed else 'FAILED'}: {name}" for name, passed in validation["checks"].items()),
        "Source: U.S. Bureau of Labor Statistics, Current Employment Statistics, seasonally adjusted, thousands of jobs. Public domain.",
    ]
    return "\n\n".join(sections) + "\n"


def _year_table(years: list[Result]) -> str:
    rows = [
        [
            year["year"],
            "" if year["average_jobs"] is None else f"{year['average_jobs']:,.1f}",
            f"{year['change']:+,.0f}",
            f"{year['worst_month']:+,.0f}",
            f"{year['best_month']:+,.0f}",
        ]
        for year in years
    ]
    return _table(["Year", "Average jobs", "Change in the year", "Worst month", "Best month"], rows)


def _sector_table(sectors: list[Result]) -> str:
    rows = [
        [
            row["sector"],
            f"{row['first_jobs']:,.1f}",
            f"{row['last_jobs']:,.1f}",
            f"{row['growth_percent']:+.1f} %",
            f"{row['deepest_fall_percent']:.1f} %",
        ]
        for row in sectors
    ]
    return _table(["Sector", "First month", "Last month", "Growth", "Deepest fall"], rows)


def _cycle_table(enrichment: Result) -> str:
    start, end = enrichment["recession"]
    rows = [
        [
            row["sector"],
            f"{row['beta']:.2f}",
            f"{row['correlation']:.3f}",
            f"{row['recession_jobs']:+,.1f}",
            f"{row['first_share_percent']:.2f} % → {row['last_share_percent']:.2f} %",
            _cycle_class(row["beta"]),
        ]
        for row in enrichment["sectors"]
    ]
    return _table(["Sector", "Beta", "Correlation", f"Jobs {start} to {end}", "Share of jobs", "Class"], rows)


def _outlier_table(outliers: list[Result]) -> str:
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for row in outliers:
        groups[row["sector"], row["kind"]].append(row)
    rows = []
    for (sector, kind), group in groups.items():
        worst = max(group, key=lambda row: abs(row["score"]))
        months = ", ".join(row["month"] for row in group)
        rows.append([sector, kind, months, f"{worst['change']:+,.1f}", f"{worst['score']:+.1f}"])
    return _table(["Sector", "Kind", "Months", "Largest change", "Score"], rows)


def _cycle_class(beta: float) -> str:
    if beta >= CYCLICAL_BETA:
        return "cyclical"
    return "steady" if beta < STEADY_BETA else "average"


def _is_adjusted(analysis: Result) -> bool:
    return bool(analysis["seasonal_explained"] <= 2 * analysis["seasonal_by_chance"])


def _sparkline(years: list[Result]) -> str:
    levels = [year["average_jobs"] for year in years if year["average_jobs"] is not None]
    if not levels:
        return "`no full year`"
    low, span = min(levels), max(levels) - min(levels) or 1
    return f"`{''.join(BLOCKS[int((level - low) / span * (len(BLOCKS) - 1))] for level in levels)}` average jobs a year"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines: list[Sequence[object]] = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _millions(thousands: float) -> str:
    return f"{thousands / 1000:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
