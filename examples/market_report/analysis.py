"""The three analyses of the employment table: table in, plain JSON values out."""

from __future__ import annotations

from typing import Any

from labor_data import SECTORS, TOTALS, LaborTable
from measures import (
    annual_growth,
    calendar_effect,
    changes,
    concentration,
    deepest_fall,
    first_above,
    moving_average,
    outliers,
    percent_changes,
    sensitivity,
    straight_line,
)

TREND_MONTHS = 24
# The recession's months as dated by the NBER's Business Cycle Dating Committee.
RECESSION = ("2007-12", "2009-06")
# Published columns are rounded: to 1 (thousand jobs), in the trade sectors to 0.1.
ROUNDING = 0.5

JsonObject = dict[str, Any]


def growth_analysis(table: LaborTable) -> JsonObject:
    """Return level, trend, deepest fall, yearly changes, leftover seasonality and growth by sector."""
    jobs, labels = table.columns["nonfarm"], table.labels()
    slope, explained = straight_line(jobs[-TREND_MONTHS:])
    seasonal, by_chance = calendar_effect([month.month for month in table.months[1:]], percent_changes(jobs))
    return {
        "first_month": labels[0],
        "last_month": labels[-1],
        "months": len(labels),
        "first_jobs": jobs[0],
        "last_jobs": jobs[-1],
        "growth_percent": round(100 * (jobs[-1] / jobs[0] - 1), 2),
        "annual_growth_percent": round(annual_growth(jobs[0], jobs[-1], len(jobs) - 1), 2),
        "trend_jobs_per_month": round(slope, 1),
        "trend_explained": round(explained, 4),
        "seasonal_explained": round(seasonal, 4),
        "seasonal_by_chance": round(by_chance, 4),
        "fall": _fall(jobs, labels),
        "years": _years(table),
        "sectors": _sector_growth(table),
    }


def quality_checks(table: LaborTable) -> JsonObject:
    """Return what was checked (rows, calendar, every published sum) and the changes that stand out."""
    checks = {
        "every row is complete": not table.problems,
        "one row a month, none missing": _is_gapless(table),
        "no negative number of jobs": all(value >= 0 for name in (*SECTORS, *TOTALS) for value in table.columns[name]),
        "the change column is the difference of the totals": changes(table.columns["nonfarm"]) == table.columns["nonfarm_change"][1:],
    }
    gaps = {total: _largest_gap(table, total, parts) for total, parts in TOTALS.items()}
    for total, gap in gaps.items():
        checks[f"parts add up to {total}"] = gap <= ROUNDING
    return {
        "checks": checks,
        "quality_score": round(sum(checks.values()) / len(checks), 4),
        "problems": table.problems,
        "largest_gap": round(max(gaps.values()), 1),
        "outliers": _sector_outliers(table),
    }


def cycle_context(table: LaborTable) -> JsonObject:
    """Return each sector's share of jobs, its sensitivity to the cycle, and what the recession did to it.

    Raises ValueError when the table does not cover the recession.
    """
    labels, jobs = table.labels(), table.columns["nonfarm"]
    if not set(RECESSION) <= set(labels):
        raise ValueError(f"the table ({labels[0]} to {labels[-1]}) does not cover the recession of {' to '.join(RECESSION)}")
    start, end = (labels.index(month) for month in RECESSION)
    total_changes = percent_changes(jobs)
    sectors = []
    for name, label in SECTORS.items():
        values = table.columns[name]
        correlated, beta = sensitivity(percent_changes(values), total_changes)
        sectors.append(
            {
                "sector": label,
                "first_share_percent": round(100 * values[0] / jobs[0], 2),
                "last_share_percent": round(100 * values[-1] / jobs[-1], 2),
                "correlation": round(correlated, 3),
                "beta": round(beta, 2),
                "recession_jobs": round(values[end] - values[start], 1),
            }
        )
    return {
        "recession": list(RECESSION),
        "recession_jobs": jobs[end] - jobs[start],
        "sectors": sorted(sectors, key=lambda row: row["beta"], reverse=True),
        "first_concentration": round(concentration([table.columns[name][0] for name in SECTORS]), 4),
        "last_concentration": round(concentration([table.columns[name][-1] for name in SECTORS]), 4),
    }


def _fall(jobs: list[float], labels: list[str]) -> JsonObject:
    peak, trough = deepest_fall(jobs)
    recovered = first_above(jobs, jobs[peak], trough)
    return {
        "peak_month": labels[peak],
        "trough_month": labels[trough],
        "recovered_month": None if recovered is None else labels[recovered],
        "jobs_lost": jobs[peak] - jobs[trough],
        "percent": round(100 * (1 - jobs[trough] / jobs[peak]), 2),
        "months_down": trough - peak,
        "months_up": None if recovered is None else recovered - trough,
    }


def _years(table: LaborTable) -> list[JsonObject]:
    labels, jobs = table.labels(), table.columns["nonfarm"]
    averages = dict(zip(labels[11:], moving_average(jobs, 12), strict=True))
    years = []
    for year in sorted({month.year for month in table.months}):
        monthly = [change for month, change in zip(table.months, table.columns["nonfarm_change"], strict=True) if month.year == year]
        average = averages.get(f"{year}-12")
        years.append(
            {
                "year": year,
                "average_jobs": None if average is None else round(average, 1),
                "change": sum(monthly),
                "worst_month": min(monthly),
                "best_month": max(monthly),
            }
        )
    return years


def _sector_growth(table: LaborTable) -> list[JsonObject]:
    rows = []
    for name, label in SECTORS.items():
        values = table.columns[name]
        peak, trough = deepest_fall(values)
        rows.append(
            {
                "sector": label,
                "first_jobs": values[0],
                "last_jobs": values[-1],
                "change": round(values[-1] - values[0], 1),
                "growth_percent": round(100 * (values[-1] / values[0] - 1), 1),
                "deepest_fall_percent": round(100 * (1 - values[trough] / values[peak]), 1),
            }
        )
    return sorted(rows, key=lambda row: row["growth_percent"], reverse=True)


def _sector_outliers(table: LaborTable) -> list[JsonObject]:
    labels = table.labels()
    rows = []
    for name, label in SECTORS.items():
        monthly = changes(table.columns[name])
        for place, score, kind in outliers(monthly):
            rows.append(
                {
                    "sector": label,
                    "month": labels[place + 1],
                    "change": round(monthly[place], 1),
                    "score": round(score, 1),
                    "kind": kind,
                }
            )
    return rows


def _largest_gap(table: LaborTable, total: str, parts: tuple[str, ...]) -> float:
    sums = map(sum, zip(*(table.columns[part] for part in parts), strict=True))
    return max(round(abs(value - parts_sum), 6) for value, parts_sum in zip(table.columns[total], sums, strict=True))


def _is_gapless(table: LaborTable) -> bool:
    numbers = [12 * month.year + month.month for month in table.months]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))
