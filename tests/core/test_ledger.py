"""What the language model has used: exact to the micro-dollar, true across kills, within the budget."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core import ledger
from orchestrator.core.dialogue import PRICES, Prices, Rates, Usage, cost
from orchestrator.core.events import LlmReserved, LlmSettled, Refused, Turned, Waiting
from orchestrator.core.exploration import Allowance, Budget
from orchestrator.core.ledger import Spent
from orchestrator.scientist.offline import OfflineScientist
from tests.factory import Driver

RESERVED = 400_000
HAIKU = PRICES["claude-haiku-5-5"]


class Asked(Driver):
    """A journal with requests to a language model."""

    def reserve(self, micro_usd=RESERVED, turn=None, step=1):
        """Reserve the next request, of the turn that comes next unless told otherwise; return its number."""
        call = len(self.state.calls) + 1
        self.add(LlmReserved(call=call, turn=turn or len(self.state.turns) + 1, based_on=1, asked=1, step=step,
                             model="claude-opus-5-5", request_sha=f"sha{call}", micro_usd=micro_usd))  # fmt: skip
        return call

    def settle(self, call, micro_usd=0, outcome="replied", usage=None, seconds=1.5, sentence=""):
        """Settle a request."""
        usage = usage or (Usage(input_tokens=10, output_tokens=5) if outcome == "replied" else None)
        self.add(LlmSettled(call=call, outcome=outcome, micro_usd=micro_usd, usage=usage, seconds=seconds,
                            sentence=sentence))  # fmt: skip

    def ask(self, micro_usd, turn=None, **fields):
        """Reserve and settle a request; return its number."""
        call = self.reserve(turn=turn)
        self.settle(call, micro_usd, **fields)
        return call

    def wait(self, seconds=60.0, sentence="Overloaded; trying again in 60 s"):
        """A request that was turned away, and the pause after it."""
        call = self.ask(0, outcome="unavailable", sentence="Overloaded")
        self.add(Waiting(call=call, seconds=seconds, sentence=sentence))

    def take(self, n=1, scientist="claude", **fields):
        """Take a turn with at most `n` proposals in the scientist's name, and end its runs; return the turn."""
        fields = {"scientist": scientist} | fields
        turn = OfflineScientist().propose(self.state, n).model_copy(update=fields)
        self.add(Turned(turn=turn))
        for proposal in turn.proposals:
            self.end(proposal.iteration, 0.5)
        return turn


# --- what a reply costs -----------------------------------------------------------------------------------------------


def test_each_kind_of_token_has_its_price():
    rates = Prices(date="2026-01-01", input=1, output=10, cache_write=100, cache_write_1h=1000, cache_read=10_000)
    usage = Usage(input_tokens=1, output_tokens=2, cache_write_tokens=3, cache_write_1h_tokens=4, cache_read_tokens=5)
    assert cost(usage, rates) == 54_321


def test_a_fraction_of_a_micro_dollar_is_rounded_up_and_never_more():
    tenth = Prices(date="2026-01-01", input=0.1, output=0.2, cache_write=0, cache_write_1h=0, cache_read=0)
    assert [cost(Usage(input_tokens=n), tenth) for n in (0, 1, 9, 10, 11, 20)] == [0, 1, 1, 1, 2, 2]
    assert cost(Usage(input_tokens=1, output_tokens=1), tenth) == 1  # in floats 0.1 + 0.2 is more than 0.3
    assert cost(Usage(input_tokens=10, output_tokens=10), tenth) == 3
    assert cost(Usage(cache_read_tokens=3), PRICES["claude-fable-5-1"]) == 1  # 0.75


@given(
    st.builds(Usage, **{name: st.integers(0, 3_000_000) for name in Usage.model_fields}),
    st.sampled_from(sorted(PRICES)),
)
def test_the_cost_is_the_exact_sum_rounded_up(usage, model):
    prices = PRICES[model]
    long = prices.long_prompt_tokens is not None and usage.prompt > prices.long_prompt_tokens
    rates = prices.long if long else prices
    pairs = zip(
        (usage.input_tokens, usage.output_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens,
         usage.cache_read_tokens),
        (rates.input, rates.output, rates.cache_write, rates.cache_write_1h, rates.cache_read),
        strict=True,
    )  # fmt: skip
    exact = sum(Fraction(str(rate)) * tokens for tokens, rate in pairs)
    assert 0 <= cost(usage, prices) - exact < 1


def test_a_long_prompt_pays_the_long_price_for_every_token():
    at = Usage(input_tokens=40_000, cache_read_tokens=60_000, output_tokens=1000)
    beyond = at.plus(Usage(cache_read_tokens=1))
    assert at.prompt == HAIKU.long_prompt_tokens == 100_000
    assert cost(at, HAIKU) == 4000 + 600 + 500
    assert cost(beyond, HAIKU) == 20_000 + 3001 + 2500  # 3000.05 for the cache
    assert cost(at.plus(Usage(output_tokens=10**6)), HAIKU) == 4000 + 600 + 500_500  # the reply does not count


def test_without_long_rates_the_length_changes_nothing():
    one = Prices(date="2026-01-01", input=1, output=1, cache_write=1, cache_write_1h=1, cache_read=1,
                 long_prompt_tokens=10)  # fmt: skip
    assert cost(Usage(input_tokens=11), one) == 11
    two = one.model_copy(update={"long": Rates(input=2, output=2, cache_write=2, cache_write_1h=2, cache_read=2)})
    assert [cost(Usage(input_tokens=n), two) for n in (10, 11)] == [10, 22]


# --- sums -------------------------------------------------------------------------------------------------------------


def test_sums_over_calls_and_turns():
    made = Asked()
    made.ask(100, usage=Usage(input_tokens=100, output_tokens=7))
    made.ask(30, usage=Usage(cache_read_tokens=300, output_tokens=1), seconds=0.25)
    made.take()
    made.ask(7, outcome="unavailable")
    made.ask(500, usage=Usage(cache_write_tokens=1, cache_write_1h_tokens=2))
    first, second, whole = ledger.spent(made.state, 1), ledger.spent(made.state, 2), ledger.spent(made.state)
    assert first == Spent(calls=2, replies=2, micro_usd=130, seconds=1.75,
                          usage=Usage(input_tokens=100, cache_read_tokens=300, output_tokens=8))  # fmt: skip
    assert first.cache_rate == 0.75
    assert (second.calls, second.replies, second.micro_usd) == (2, 1, 507)
    assert (whole.calls, whole.replies, whole.micro_usd, whole.seconds) == (4, 3, 637, 4.75)
    assert whole.usage == first.usage.plus(second.usage)
    assert ledger.spent_until(made.state, 1) == first
    assert ledger.spent_until(made.state, 2) == whole
    assert ledger.spent(Driver().state) == Spent()
    assert Spent().cache_rate is None


def test_a_request_counts_with_its_reservation_until_it_is_settled():
    made = Asked()
    call = made.reserve(micro_usd=400)
    assert (ledger.spent(made.state).micro_usd, ledger.spent(made.state).in_flight) == (400, 1)
    made.settle(call, 20)
    assert (ledger.spent(made.state).micro_usd, ledger.spent(made.state).in_flight) == (20, 0)
    made.settle(call, 21)  # the same event again changes nothing
    assert ledger.spent(made.state).micro_usd == 20


def test_lost_requests_and_waits_are_counted():
    made = Asked()
    made.ask(RESERVED, outcome="lost")
    made.wait(60.0)
    made.wait(120.5)
    found = ledger.spent(made.state)
    assert (found.lost, found.waits, found.waited_s, found.micro_usd) == (1, 2, 180.5, RESERVED)


def test_how_money_is_written():
    assert [ledger.usd(m) for m in (0, 49, 51, 1_234_567)] == ["$0.0000", "$0.0000", "$0.0001", "$1.2346"]
    assert [ledger.usd_exact(m) for m in (0, 49, 1_234_567)] == ["$0.000000", "$0.000049", "$1.234567"]


# --- the budget -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "allowed"), [(99, True), (100, True), (101, False)])
def test_money_may_be_used_to_the_last_micro_dollar(more, allowed):
    found = ledger.exceeded(Allowance(max_usd=0.001), Spent(micro_usd=900), micro_usd=more)
    assert (found is None) == allowed
    if not allowed:
        assert found == "max_usd 0.001: $0.0009 are spent, and the next request may cost $0.0001"


@pytest.mark.parametrize("limit", [0.1, 2.01, 2.03, 2.05, 5.0])
def test_a_limit_in_dollars_is_its_micro_dollars(limit):
    exact = int(Fraction(str(limit)) * 10**6)
    assert ledger.exceeded(Allowance(max_usd=limit), Spent(), micro_usd=exact) is None
    assert ledger.exceeded(Allowance(max_usd=limit), Spent(), micro_usd=exact + 1) is not None


def test_tokens_and_minutes_at_their_boundary():
    used = Spent(usage=Usage(input_tokens=40, cache_read_tokens=50, output_tokens=5), seconds=60.0)
    assert ledger.exceeded(Allowance(max_tokens=100), used, tokens=5) is None
    assert ledger.exceeded(Allowance(max_tokens=100), used, tokens=6) == (
        "max_tokens 100: 95 are used, and the next request may take 6"
    )
    assert ledger.exceeded(Allowance(max_min=1.0), used) == "max_min 1: replies took 1 minutes"
    assert ledger.exceeded(Allowance(max_min=1.01), used) is None
    assert ledger.exceeded(Allowance(), used, micro_usd=10**12, tokens=10**12) is None


def test_the_total_and_the_turn_have_limits_of_their_own():
    budget = Budget(max_usd=0.001, turn=Allowance(max_usd=0.0005))
    made = Asked()
    made.ask(400)
    assert ledger.refused_by(budget, made.state, 1, 100, 0) == (None, None)
    whole, turn = ledger.refused_by(budget, made.state, 1, 101, 0)
    assert whole is None
    assert turn.startswith("max_usd 0.0005")
    made.take()
    assert ledger.refused_by(budget, made.state, 2, 500, 0) == (None, None)  # a new turn, a new allowance
    made.ask(500)
    made.take()
    assert ledger.refused_by(budget, made.state, 3, 100, 0) == (None, None)
    whole, turn = ledger.refused_by(budget, made.state, 3, 101, 0)
    assert whole.startswith("max_usd 0.001")
    assert turn is None


def test_a_request_in_flight_is_within_the_budget():
    made = Asked()
    made.reserve(micro_usd=900)
    assert ledger.refused_by(Budget(max_usd=0.001), made.state, 1, 101, 0)[0] is not None
    assert ledger.refused_by(Budget(max_usd=0.001), made.state, 1, 100, 0)[0] is None


# --- turns and iterations ---------------------------------------------------------------------------------------------


def test_turns_are_those_that_were_asked_about_or_taken_by_another():
    made = Asked()
    made.take()  # nobody was asked
    made.ask(10)
    made.add(Refused(turn=2, attempt=1, scientist="claude", reason="out of range"))
    made.add(Refused(turn=2, attempt=2, scientist="claude", reason="again"))
    made.take(n=2)
    made.add(Refused(turn=3, attempt=1, scientist="claude", reason="no budget"))
    made.take(scientist="offline", instead="no budget")
    made.ask(20)
    found = ledger.turns(made.state)
    assert [(t.turn, t.iterations, t.spent.micro_usd, t.refusals) for t in found] == [
        (2, (2, 3), 10, ("out of range", "again")),
        (3, (4,), 0, ("no budget",)),
        (4, (), 20, ()),
    ]
    assert [t.taken is None for t in found] == [False, False, True]
    assert found[1].taken.instead == "no budget"
    assert ledger.turns(Driver().state) == ()


def test_a_turns_cost_is_shared_by_its_iterations():
    made = Asked()
    made.ask(101)
    made.take(n=3)
    made.ask(50)
    made.take()
    made.ask(8)
    assert ledger.shares(made.state) == ({1: 34, 2: 34, 3: 33, 4: 50}, 8)


@given(st.integers(0, 10**12), st.integers(1, 50))
def test_parts_add_up_and_differ_by_one_at_most(micro, parts):
    found = ledger.split(micro, parts)
    assert sum(found) == micro
    assert len(found) == parts
    assert max(found) - min(found) <= 1


OUTCOMES = st.sampled_from(["replied", "unavailable", "rejected", "lost", "open"])
CALLS = st.lists(st.tuples(st.integers(0, 10**7), OUTCOMES), max_size=4)


@given(st.lists(st.tuples(CALLS, st.integers(0, 3)), max_size=8), CALLS)
def test_what_iterations_cost_adds_up_to_all_that_was_spent(turns, pending):
    """Through block ends, turns without proposals, lost, failed and open requests."""
    made = Asked()
    for calls, n in [*turns, (pending, None)]:
        for micro, outcome in calls:
            call = made.reserve(micro_usd=10**7)
            if outcome != "open":
                made.settle(call, micro, outcome)
        if n is not None:
            made.take(n)
    found, rest = ledger.shares(made.state)
    assert sum(found.values()) + rest == ledger.spent(made.state).micro_usd
    assert sum(t.spent.micro_usd for t in ledger.turns(made.state)) == ledger.spent(made.state).micro_usd
    assert set(found) <= set(made.state.iterations)


# --- the stable prefix ------------------------------------------------------------------------------------------------


def test_the_prefix_is_measured_at_a_turns_first_request():
    made = Asked()
    assert ledger.prefix_tokens(made.state) is None
    made.ask(1, usage=Usage(cache_write_1h_tokens=3200, cache_write_tokens=500, input_tokens=3))
    made.ask(1, usage=Usage(cache_read_tokens=9000))  # goes on: its own turn is in the cache
    assert ledger.prefix_tokens(made.state) == 3200
    made.take()
    made.ask(1, usage=Usage(cache_read_tokens=3000, cache_write_1h_tokens=400))  # its end has changed
    assert ledger.prefix_tokens(made.state) == 3400
    made.take()
    made.wait()
    made.ask(1, usage=Usage(cache_read_tokens=8000))  # the same prompt again: all of it was there
    assert ledger.prefix_tokens(made.state) == 3400


def test_a_prefix_that_was_never_cached_is_not_known():
    made = Asked()
    made.ask(1, usage=Usage(input_tokens=5000))
    assert ledger.prefix_tokens(made.state) is None


def test_what_is_cut_off_is_what_later_requests_used_also_when_one_was_open_at_the_cut():
    """A reservation that was open when the block ended, and settled for less since, is settled again in the copy."""
    kept, whole = Asked(), Asked()
    for driver in (kept, whole):
        driver.ask(10)
        driver.reserve()
    whole.settle(2, 20)
    assert ledger.cut_off(whole.state, kept.state) is None
    whole.ask(30)
    cut = ledger.cut_off(whole.state, kept.state)
    assert (cut.micro_usd, cut.usage.total, cut.seconds) == (30, 15, 1.5)
