"""The main job: its report stands in a file, and every figure in it is right.

The expected figures were computed from the same file with numpy and pandas; what can be said in
a line is computed here once more, by other means than the example's.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "market_report"
CONFIG = "examples/market_report/agentflow.toml"
DATASET = EXAMPLE / "data" / "us-employment.csv"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """The data set as text."""
    with DATASET.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def outcome(run_cli: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run of the main job that reports into a folder of its own."""
    report = tmp_path_factory.mktemp("report") / "report.md"
    return run_cli(CONFIG, "--set", f"report={report}")


@pytest.fixture(scope="module")
def report(outcome: Any) -> str:
    """The text of the report file."""
    return Path(outcome.data["report_path"]).read_text(encoding="utf-8")


def exact(rows: list[dict[str, str]], column: str) -> list[Fraction]:
    """A column without any rounding."""
    return [Fraction(row[column]) for row in rows]


def table_row(report: str, first_cell: str) -> list[str]:
    """The other cells of the first table row that starts with a cell."""
    found = re.search(rf"^\| {re.escape(first_cell)} \| (.*) \|$", report, re.MULTILINE)
    assert found, first_cell
    return found.group(1).split(" | ")


def found_by(outcome: Any, agent: str) -> dict[str, Any]:
    """What an agent added to the state."""
    results = {
        "analyzer": "analysis_result",
        "validator": "validation_result",
        "enricher": "enrichment_result",
        "synthesizer": "synthesized_report",
    }
    return outcome.result["outputs"][agent][results[agent]]


def sector(outcome: Any, agent: str, label: str) -> dict[str, Any]:
    """The row of a sector in what an agent found."""
    return next(row for row in found_by(outcome, agent)["sectors"] if row["sector"] == label)


def test_runs_with_no_option_and_prints_where_the_report_is(run_python: Callable[..., Any]) -> None:
    """`make run`: no flag needed, exit 0, and `report_path` names an existing file beside the example."""
    shutil.rmtree(EXAMPLE / "out", ignore_errors=True)
    outcome = run_python("-m", "agentflow", "run", CONFIG, "--json")
    assert (outcome.code, outcome.result["status"]) == (0, "completed"), outcome.stderr
    assert outcome.data["report_path"] == str(Path("examples/market_report/out/report.md"))
    text = (ROOT / outcome.data["report_path"]).read_text(encoding="utf-8")
    assert hashlib.sha256(text.encode()).hexdigest() == outcome.data["report_sha256"]


def test_mixed_mode_runs_three_then_three(outcome: Any) -> None:
    """Each of the six agents answers once; what the report says in full is kept by agent and taken out of the state."""
    agents = ["analyzer", "validator", "enricher", "synthesizer", "formatter", "publisher"]
    assert list(outcome.result["outputs"]) == agents
    assert outcome.result["usage"]["calls"] == 6
    assert outcome.result["conflicts"] == []
    assert set(outcome.data) == {"report", "executive_summary", "report_path", "report_sha256"}
    assert outcome.meta == {"analyzer_complete": "true", "validator_complete": "true", "enricher_complete": "true"}


def test_growth_and_fall(outcome: Any, rows: list[dict[str, str]]) -> None:
    """Growth, the deepest fall and the month of recovery are those of the data."""
    jobs = exact(rows, "nonfarm")
    analysis = found_by(outcome, "analyzer")
    assert analysis["growth_percent"] == pytest.approx(float(100 * (jobs[-1] - jobs[0]) / jobs[0]), abs=0.005)
    assert analysis["annual_growth_percent"] == 0.56  # 0.5551 with numpy
    pairs = [
        (1 - later / earlier, place, follow) for place, earlier in enumerate(jobs) for follow, later in enumerate(jobs) if follow > place
    ]
    fall, peak, trough = max(pairs)
    recovered = next(place for place in range(trough, len(jobs)) if jobs[place] > jobs[peak])
    months = [row["month"][:7] for row in rows]
    assert analysis["fall"] == {
        "peak_month": months[peak],
        "trough_month": months[trough],
        "recovered_month": months[recovered],
        "jobs_lost": float(jobs[peak] - jobs[trough]),
        "percent": round(float(100 * fall), 2),
        "months_down": trough - peak,
        "months_up": recovered - trough,
    }
    assert (months[peak], months[trough], months[recovered]) == ("2008-01", "2010-02", "2014-05")


def test_trend_is_the_least_squares_line(outcome: Any, rows: list[dict[str, str]]) -> None:
    """The slope over the last 24 months solves the normal equations: 240.69 thousand jobs a month."""
    jobs = exact(rows, "nonfarm")[-24:]
    steps, total = sum(range(24)), sum(jobs)
    slope = (24 * sum(step * value for step, value in enumerate(jobs)) - steps * total) / (24 * sum(s * s for s in range(24)) - steps**2)
    assert found_by(outcome, "analyzer")["trend_jobs_per_month"] == round(float(slope), 1) == 240.7
    assert found_by(outcome, "analyzer")["trend_explained"] == 0.9979


def test_seasonality_is_gone(outcome: Any) -> None:
    """The calendar month explains 0.88 % of the changes (numpy), less than the 11/118 that chance gives."""
    assert found_by(outcome, "analyzer")["seasonal_explained"] == 0.0088
    assert found_by(outcome, "analyzer")["seasonal_by_chance"] == round(11 / 118, 4)


def test_years(outcome: Any, rows: list[dict[str, str]]) -> None:
    """Each year's average, change and extreme months are those of its twelve rows."""
    for year in found_by(outcome, "analyzer")["years"]:
        own = [row for row in rows if row["month"].startswith(str(year["year"]))]
        monthly = exact(own, "nonfarm_change")
        assert len(own) == 12
        assert year["average_jobs"] == pytest.approx(float(sum(exact(own, "nonfarm")) / 12), abs=0.051)
        assert (year["change"], year["worst_month"], year["best_month"]) == (sum(monthly), min(monthly), max(monthly))
    assert len(found_by(outcome, "analyzer")["years"]) == 10


def test_sectors(outcome: Any, rows: list[dict[str, str]]) -> None:
    """The fifteen sectors make up all jobs, in order of growth, with the fall that pandas finds for construction."""
    sectors = found_by(outcome, "analyzer")["sectors"]
    assert len(sectors) == 15
    assert sum(row["last_jobs"] for row in sectors) == pytest.approx(float(rows[-1]["nonfarm"]), abs=0.5)
    growth = [row["growth_percent"] for row in sectors]
    assert growth == sorted(growth, reverse=True)
    construction = sector(outcome, "analyzer", "Construction")
    assert construction["change"] == float(rows[-1]["construction"]) - float(rows[0]["construction"]) == -969
    assert construction["deepest_fall_percent"] == 29.8  # 29.757 with pandas


@pytest.mark.parametrize(
    ("label", "column", "beta", "correlation"),
    [
        ("Construction", "construction", 3.25, 0.863),
        ("Durable goods", "durable_goods", 2.36, 0.857),
        ("Government", "government", 0.28, 0.202),
        ("Education and health services", "education_and_health_services", 0.08, 0.161),
    ],
)
def test_business_cycle(outcome: Any, rows: list[dict[str, str]], label: str, column: str, beta: float, correlation: float) -> None:
    """Beta and correlation are numpy's; shares and recession losses are those of the rows."""
    row = sector(outcome, "enricher", label)
    by_month = {entry["month"][:7]: Fraction(entry[column]) for entry in rows}
    assert (row["beta"], row["correlation"]) == (beta, correlation)
    assert row["recession_jobs"] == float(by_month["2009-06"] - by_month["2007-12"])
    assert row["last_share_percent"] == round(float(100 * by_month["2015-12"] / Fraction(rows[-1]["nonfarm"])), 2)


def test_quality_checks_hold_and_the_rounding_gap_is_seen(outcome: Any) -> None:
    """All eleven checks pass on the published data; the trade sectors' rounding shows as a gap of 0.5."""
    validation = found_by(outcome, "validator")
    assert len(validation["checks"]) == 11
    assert all(validation["checks"].values())
    assert (validation["quality_score"], validation["largest_gap"], validation["problems"]) == (1.0, 0.5, [])
    assert found_by(outcome, "synthesizer")["confidence"] == 1.0


def test_outliers_tell_a_census_from_a_recession(outcome: Any) -> None:
    """The census of May 2010 (score 14.9 with pandas) and the utility strike of July 2012 are one-offs, the recession is not."""
    kinds = {(row["sector"], row["month"]): (row["kind"], row["score"]) for row in found_by(outcome, "validator")["outliers"]}
    assert kinds["Government", "2010-05"] == ("one-off", 14.9)
    assert kinds["Government", "2010-06"][0] == "rebound"
    assert kinds["Utilities", "2012-07"][0] == "one-off"
    assert kinds["Information", "2011-08"][0] == "one-off"
    assert kinds["Construction", "2009-01"][0] == "sustained"
    assert not any(name == "Education and health services" for name, _ in kinds)


def test_report_says_what_was_found(report: str) -> None:
    """The Markdown carries the figures of the results, in sentences and in tables."""
    assert report.startswith("# United States labour market, 2006-01 to 2015-12\n")
    assert "grew by 5.64 % to 143.1 million jobs. On the way it lost 8.7 million jobs (6.28 %), and came back by 2014-05." in report
    assert table_row(report, "2009") == ["131,301.4", "-5,061", "-802", "+12"]
    assert table_row(report, "Education and health services") == ["17,946.0", "22,318.0", "+24.4 %", "0.1 %"]
    assert "- Government in 2010-05 (+427.0 thousand) was undone within months: leave it out of trends." in report
    assert report.count("- passed: ") == 11
    assert "FAILED" not in report
    assert report.rstrip().endswith("Public domain.")


def test_same_input_same_report(outcome: Any, run_cli: Callable[..., Any], tmp_path: Path) -> None:
    """A second run writes the same bytes, whatever order the three analyses ended in."""
    again = run_cli(CONFIG, "--set", f"report={tmp_path / 'again.md'}")
    assert again.data["report_sha256"] == outcome.data["report_sha256"]


def test_damaged_data_is_found_and_reported(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    """A cell that is no number, a wrong sum and a missing month lower the confidence and are named in the report."""
    lines = DATASET.read_text(encoding="utf-8").splitlines()
    lines[10] = lines[10].replace(",", ",n/a", 1)
    lines[60] = lines[60].replace(lines[60].split(",")[2], "1", 1)
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("\n".join(lines) + "\n", encoding="utf-8")
    outcome = run_cli(CONFIG, "--set", f"dataset={damaged}", "--set", f"report={tmp_path / 'report.md'}")
    validation = found_by(outcome, "validator")
    assert outcome.code == 0
    assert [problem.split(":")[0] for problem in validation["problems"]] == ["line 11"]
    failed = {name for name, passed in validation["checks"].items() if not passed}
    assert failed == {
        "every row is complete",
        "one row a month, none missing",
        "the change column is the difference of the totals",
        "parts add up to nonfarm",
        "parts add up to private",
    }
    assert found_by(outcome, "synthesizer")["confidence"] == round(6 / 11, 4)
    assert "- Data check failed: parts add up to nonfarm." in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_data_set_that_cannot_be_read_fails_the_run(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    """With no usable table more than half of the analyses fail: exit 1, nothing published, the reason on every branch."""
    empty = tmp_path / "empty.csv"
    empty.write_text("month,nonfarm\n", encoding="utf-8")
    outcome = run_cli(CONFIG, "--set", f"dataset={empty}", "--set", f"report={tmp_path / 'report.md'}")
    assert (outcome.code, outcome.result["status"]) == (1, "failed")
    assert set(outcome.result["errors"]) >= {"analyzer", "validator", "enricher"}
    assert "empty.csv lacks the columns" in outcome.result["errors"]["analyzer"]["message"]
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize(
    ("mode", "options", "agents"),
    [
        ("route", ["--target", "analyzer"], ["analyzer"]),
        ("collaborative", [], ["analyzer", "validator", "enricher"]),
        ("sequential", [], ["synthesizer", "formatter", "publisher"]),
        ("loop", [], ["validator"]),
    ],
)
def test_one_word_changes_the_mode(run_cli: Callable[..., Any], tmp_path: Path, mode: str, options: list[str], agents: list[str]) -> None:
    """The same file and handlers run under every mode when the word `mode` alone is changed."""
    outcome = run_cli(CONFIG, "--set", f"report={tmp_path / 'report.md'}", *options, environment={"AGENTFLOW__ORCHESTRATION__MODE": mode})
    assert (outcome.code, outcome.result["status"]) == (0, "completed"), outcome.stderr
    assert list(outcome.result["outputs"]) == agents
    if mode == "loop":
        assert outcome.result["reason"] == "condition_met"
    if "publisher" in agents:
        assert (tmp_path / "report.md").exists()


def test_source_page_describes_the_file() -> None:
    """The licence, the origin and every column of the data set are named beside it; the file is the published one."""
    page = (EXAMPLE / "data" / "SOURCE.md").read_text(encoding="utf-8")
    content = DATASET.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    assert blob in page
    assert "https://www.usa.gov/government-works" in page
    for column in content.decode().splitlines()[0].split(","):
        assert f"`{column}`" in page
    assert len(content) < 300_000
