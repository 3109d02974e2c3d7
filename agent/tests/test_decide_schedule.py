from hypothesis import given
from hypothesis import strategies as st
from securecloud_agent.decide.clock import skew_warning, span
from securecloud_agent.decide.schedule import ask_again_after, backoff, exit_status

chances = st.floats(0, 0.999)


@given(st.integers(0, 10_000), chances)
def test_backoff_grows_to_a_limit(attempt, chance):
    assert 0.5 <= backoff(attempt, chance) <= 60


@given(
    st.lists(st.none() | st.integers(0, 10**7)), st.integers(0, 99), st.integers(0, 10**7), chances
)
def test_the_agent_never_spins(retries, failures, interval, chance):
    assert ask_again_after(retries, failures, interval, chance) >= 0.5


def test_the_servers_wish_counts_and_a_failure_comes_first():
    assert ask_again_after([20, None, 30], 0, 300, 0) == 15
    assert ask_again_after([20], 0, 300, 0) == 20
    assert ask_again_after([], 0, 300, 0) == 300
    assert ask_again_after([20], 1, 300, 0) == 0.5


def test_the_worst_outcome_speaks():
    assert exit_status([]) == exit_status(["granted"]) == 0
    assert exit_status(["granted", "pending"]) == 3
    assert exit_status(["pending", "denied"]) == 4
    assert exit_status(["denied", "failed", "pending"]) == 1


def test_clock_skew():
    assert skew_warning(1000, 1300) is None
    assert "2 days ahead of" in (skew_warning(0, 2 * 86400) or "")
    assert "6 minutes behind" in (skew_warning(400, 0) or "")
    assert span(59) == "59 seconds"
    assert span(-7200) == "2 hours"
