"""Reading the employment table: months, columns, and what is wrong with its rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

DATASET = Path(__file__).parent / "data" / "us-employment.csv"

# The fifteen sectors that together make up all nonfarm jobs. The key is the column's
# own name in the published file, its misspelling of "utilities" in the total included.
SECTORS = {
    "mining_and_logging": "Mining and logging",
    "construction": "Construction",
    "durable_goods": "Durable goods",
    "nondurable_goods": "Nondurable goods",
    "wholesale_trade": "Wholesale trade",
    "retail_trade": "Retail trade",
    "transportation_and_warehousing": "Transportation and warehousing",
    "utilities": "Utilities",
    "information": "Information",
    "financial_activities": "Financial activities",
    "professional_and_business_services": "Professional and business services",
    "education_and_health_services": "Education and health services",
    "leisure_and_hospitality": "Leisure and hospitality",
    "other_services": "Other services",
    "government": "Government",
}

# Every published total and the columns that must add up to it.
TOTALS = {
    "nonfarm": ("private", "government"),
    "private": ("goods_producing", "private_service_providing"),
    "service_providing": ("private_service_providing", "government"),
    "goods_producing": ("mining_and_logging", "construction", "manufacturing"),
    "manufacturing": ("durable_goods", "nondurable_goods"),
    "trade_transportation_utilties": (
        "wholesale_trade",
        "retail_trade",
        "transportation_and_warehousing",
        "utilities",
    ),
    "private_service_providing": (
        "trade_transportation_utilties",
        "information",
        "financial_activities",
        "professional_and_business_services",
        "education_and_health_services",
        "leisure_and_hospitality",
        "other_services",
    ),
}

COLUMNS = sorted({*SECTORS, *TOTALS, "nonfarm_change"})


@dataclass(frozen=True)
class LaborTable:
    """Monthly employment by sector, in thousands of jobs, oldest month first."""

    months: list[date]
    columns: dict[str, list[float]]
    problems: list[str] = field(default_factory=list)

    def labels(self) -> list[str]:
        """Return each month as "2006-01"."""
        return [f"{month:%Y-%m}" for month in self.months]


def read_table(path: Path) -> LaborTable:
    """Read the CSV file; a row that cannot be used is left out and named in `problems`.

    Raises ValueError when columns are missing or no row can be used.
    """
    months: list[date] = []
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
    problems: list[str] = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = sorted({"month", *COLUMNS} - set(reader.fieldnames or ()))
        if missing:
            raise ValueError(f"{path.name} lacks the columns {', '.join(missing)}")
        for line, row in enumerate(reader, start=2):
            try:
                month = date.fromisoformat(row["month"])
                values = {name: float(row[name]) for name in COLUMNS}
            except (TypeError, ValueError) as error:
                problems.append(f"line {line}: {error}")
                continue
            months.append(month)
            for name, value in values.items():
                columns[name].append(value)
    if not months:
        raise ValueError(f"{path.name} has no usable row")
    return LaborTable(months, columns, problems)
