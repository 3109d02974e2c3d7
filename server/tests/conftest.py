"""At the end of a run, says how many faults were injected."""

import pytest

_INJECTIONS = "injections: "


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = {
        name.removeprefix(_INJECTIONS): count
        for report in terminalreporter.stats.get("passed", [])
        for name, count in report.user_properties
        if name.startswith(_INJECTIONS)
    }
    if figures:
        each = ", ".join(f"{fault} {count:,}" for fault, count in figures.items())
        terminalreporter.write_line(f"{sum(figures.values()):,} injections: {each}")
