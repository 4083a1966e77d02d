from orchestrator.core.classify import node_verdict, verdict
from orchestrator.views.lines import node_line
from tests.factory import Driver


def test_a_node_has_the_class_of_its_mean_and_a_run_its_own():
    driver = Driver()
    driver.put(0.88)
    driver.put(0.96, of=1, seeds=(8, 42))
    state = driver.state
    assert [verdict(state, state.iterations[i]) for i in (1, 2)] == ["partial", "converged"]
    assert node_verdict(state, state.nodes[1]) == "converged"
    assert "0.9200 ± 0.0400 converged, n=2" in node_line(state, 0, state.iterations[1])


def test_a_node_without_a_result_has_the_last_class():
    driver = Driver()
    driver.put(outcome="diverged")
    assert node_verdict(driver.state, driver.state.nodes[1]) == "failed"
