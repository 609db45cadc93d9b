"""[[schedules]]: what is refused, with its place, and what a schedule without a name is called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentflow.config.load import Draft

HEAD = "[[schedules]]\n"


@pytest.mark.parametrize(
    ("text", "code", "message", "line"),
    [
        ('cron = "61 * * * *"', "AF0129", "`cron` is no cron expression: bad minute", 2),
        ('cron = "* * * * * *"', "AF0129", "`cron` must have five fields", 2),
        ('cron = "@hourly"', "AF0129", "`cron` must have five fields", 2),
        ('cron = "0 0 31 2 *"', "AF0129", "`cron` is no cron expression: bad day-of-month", 2),
        ('cron = "* * * * *"\ntimezone = "Europe/Berln"', "AF0129", "`timezone` is no time zone that this machine knows", 3),
        ('cron = "* * * * *"\ntimezone = "../../etc/passwd"', "AF0129", "`timezone` is no time zone that this machine knows", 3),
        ('cron = "* * * * *"\ntimezone = "Europe"', "AF0129", "`timezone` is no time zone that this machine knows", 3),
        ("every = 0", "AF0104", "`every` must be at least 1, not 0", 2),
        ("every = 0.5", "AF0103", "`every` must be an integer, not a float", 2),
        ('every = 60\ntimezone = "UTC"', "AF0129", "`timezone` says nothing of `every`", 3),
        ('every = 60\ncron = "* * * * *"', "AF0129", "a schedule has either `cron` or `every`", 1),
        ('target = "agent_x"', "AF0129", "a schedule has either `cron` or `every`", 1),
        ('every = 60\nmissed = "all"', "AF0104", "`missed` must be one of skip, run_once, not `all`", 3),
        ("every = 60\ndata = { at = 2020-01-01 }", "AF0104", "`data` must be JSON: data.at is a date: datetime.date(2020, 1, 1)", 3),
        ("every = 60\ndata = 1", "AF0103", "`data` must be a table, not an integer", 3),
        ('every = 60\nmetadata = { due = "x" }', "AF0104", "`metadata` may not have `schedule` and `due`", 3),
        ("every = 60\nmetadata = { n = 1 }", "AF0103", "`n` must be a string, not an integer", 3),
        ('every = 60\ntarget = "b"', "AF0193", "no agent or flow named `b` in the file", 3),
        ("every = 60\nhour = 1", "AF0102", "unknown key `hour`", 3),
    ],
)
def test_a_schedule_that_cannot_be_is_told_once_and_at_its_place(
    draft: Callable[..., Draft], text: str, code: str, message: str, line: int
) -> None:
    """Each mistake of a table has one diagnostic, at its key or at the table that lacks it."""
    (diagnostic,) = draft(HEAD + text + "\n[agents.agent_x]\n").diagnostics
    assert (code, message, line) == (diagnostic.code, diagnostic.message, diagnostic.line)


@pytest.mark.parametrize("name", ["", 'name = "x"\n'])
def test_two_schedules_of_one_name_are_refused(draft: Callable[..., Draft], name: str) -> None:
    """Their events would be taken for the same; without a name, times and target are the name."""
    text = f'{HEAD}{name}every = 60\ntarget = "a"\n{HEAD}{name}every = 60\ntarget = "a"\n[agents.a]\n'
    (diagnostic,) = draft(text).diagnostics
    told = "x" if name else "a every 60 s"
    assert ("AF0129", f"two schedules are called `{told}`") == (diagnostic.code, diagnostic.message)


def test_a_schedule_without_a_name_is_called_by_its_target_and_its_times(draft: Callable[..., Draft]) -> None:
    """So that it is the same schedule wherever in the file it stands."""
    text = f'{HEAD}cron = "0 6 * * MON-FRI"\ntimezone = "Asia/Kathmandu"\ntarget = "a"\n{HEAD}every = 5\n[agents.a]\n'
    config = draft(text).config
    assert config is not None
    assert ["a 0 6 * * MON-FRI Asia/Kathmandu", "event every 5 s"] == [schedule.title for schedule in config.schedules]
