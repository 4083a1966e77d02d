"""The command line on the toy home: continuing, status, fresh start, other roots, starts from other nodes."""

import json

from orchestrator.core.events import Session, Turned
from orchestrator.store import journal
from tests import toy

VIEWS = ("memory.md", "analysis.md", "ucb_scores.txt", "best.yaml")


def explore(home, *words):
    done = toy.run(home, "explore", "toy", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_larger_total_continues_and_deletes_nothing(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "3")
    before = (toy.out(home) / "journal.jsonl").read_bytes()
    entries = (toy.out(home) / "analysis.md").read_text()
    assert explore(home, "--iterations", "3").count("iter ") == 0
    explore(home, "--iterations", "5")
    assert (toy.out(home) / "journal.jsonl").read_bytes().startswith(before)
    assert (toy.out(home) / "analysis.md").read_text().startswith(entries)
    assert (toy.out(home) / "analysis.md").read_text().count("## Iter ") == 5
    assert sorted(p.name for p in (toy.out(home) / "runs").iterdir()) == [f"000{i}-1" for i in range(1, 6)]


def test_deleted_views_come_back_byte_for_byte(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "4")
    before = {name: (toy.out(home) / name).read_bytes() for name in VIEWS}
    for name in VIEWS:
        (toy.out(home) / name).unlink()
    done = toy.run(home, "status", "toy")
    assert done.returncode == 0 and "best so far: node" in done.stdout
    assert {name: (toy.out(home) / name).read_bytes() for name in VIEWS} == before


def test_the_entry_has_the_log_form_and_memory_ends_with_emerging_observations(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "4")
    entry = (toy.out(home) / "analysis.md").read_text().split("\n\n")[-1]
    labels = [line.split(":")[0] for line in entry.strip().splitlines()]
    assert labels == [
        "## Iter 4", "Node", "Mode/Strategy", "Evidence", "Config", "Metrics", "Mutation", "Parent rule", "Hypothesis",
        "Observation", "Next",
    ]  # fmt: skip
    assert "Mutation: none (replicate of " in entry and "(replicate 2)" in entry
    memory = (toy.out(home) / "memory.md").read_text()
    headings = [line for line in memory.splitlines() if line.startswith("#")]
    assert headings[-1] == "### Emerging Observations"
    assert "oracle (true parameters): connectivity_R2 1" in memory.split("## Knowledge Base")[0]


def test_fresh_sets_the_old_folder_aside_with_its_date(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "2")
    explore(home, "--iterations", "1", "--fresh")
    aside = list(toy.out(home).parent.glob("out-*"))
    assert len(aside) == 1 and (aside[0] / "journal.jsonl").exists()
    assert (toy.out(home) / "analysis.md").read_text().count("## Iter ") == 1


def test_root_puts_the_output_elsewhere_also_at_odd_paths(odd_path):
    home = toy.make_home(odd_path)
    explore(home, "--iterations", "2", "--root", str(odd_path / "else where"))
    assert (odd_path / "else where" / "toy" / "memory.md").exists()
    assert not toy.out(home).exists()


def test_a_seed_draws_another_system_and_must_fit_what_was_opened(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "1", "--seed", "5")
    entry = (toy.out(home) / "analysis.md").read_text()
    assert "seed=5" in entry and "simulation_seed=5" in entry
    done = toy.run(home, "explore", "toy", "--seed", "6")
    assert done.returncode == 2 and "SEED=6 does not fit" in done.stderr


def test_from_starts_at_another_explorations_node(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "3")
    explore(home, "--iterations", "1", "--from", "toy:2", "--root", str(tmp_path / "b"))
    entry = (tmp_path / "b" / "toy" / "analysis.md").read_text()
    assert "lr_W=1E-2" in entry and "lr_W=1E-2" in (toy.out(home) / "analysis.md").read_text().split("## Iter 2")[1]
    opened = journal.read(tmp_path / "b" / "toy" / "journal.jsonl")[0].body
    assert opened.origin == "toy:2"
    explore(home, "--iterations", "1", "--from", "toy:2", "--fresh")
    assert "lr_W=1E-2" in (toy.out(home) / "analysis.md").read_text()
    elsewhere = ("--root", str(tmp_path / "x"))
    for origin, words, told in (("toy:9", elsewhere, "no iteration 9"), ("toy", elsewhere, "expected EXPLORATION:ITER"),
                                ("toy:1", (), "starts an exploration")):  # fmt: skip
        done = toy.run(home, "explore", "toy", "--iterations", "1", "--from", origin, *words)
        assert done.returncode == 2 and told in done.stderr, done.stderr


def test_a_start_outside_the_ranges_is_refused(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "2")
    path = home / "instructions" / "toy.md"
    path.write_text(path.read_text().replace("range: 1E-4 to 1E-2", "range: 1E-4 to 5E-3"))
    done = toy.run(home, "explore", "toy", "--from", "toy:2", "--root", str(tmp_path / "b"))
    assert done.returncode == 2 and "range 1E-4 to 5E-3" in done.stderr
    done = toy.run(home, "explore", "toy", "--seed", "-1", "--root", str(tmp_path / "b"))
    assert done.returncode == 2 and "expected >= 0" in done.stderr
    assert not (tmp_path / "b").exists()


def test_changed_code_is_told_and_does_not_act_and_another_command_is_refused(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "1")
    (home / "models" / "new.py").write_text("x = 1\n")
    assert "keeps its own code" in explore(home, "--iterations", "2")
    exploration = home / "explorations" / "toy" / "exploration.yaml"
    exploration.write_text(exploration.read_text() + "command: [python, x.py]\n")
    done = toy.run(home, "explore", "toy", "--iterations", "4")
    assert done.returncode == 2 and "`command:` is" in done.stderr


def test_fresh_stops_what_a_dead_engine_left_running(tmp_path):
    home = toy.make_home(tmp_path, "--epochs", "60", "--epoch-s", "0.2")
    engine = toy.start(home, "explore", "toy", "--iterations", "1")
    toy.wait_for(lambda: list((toy.out(home) / "runs").glob("0001-1/out/checkpoint.*")))
    engine.kill()
    engine.wait()
    engine.stdout.close()
    assert toy.processes_of(toy.out(home))
    (home / "trainers" / "options.json").write_text("[]")
    explore(home, "--iterations", "1", "--fresh")
    assert not toy.processes_of(home)
    (aside,) = toy.out(home).parent.glob("out-*")
    assert json.loads((aside / "runs" / "0001-1" / "exit.json").read_text())["reason"] == "cancelled"
    assert json.loads((toy.out(home) / "runs" / "0001-1" / "exit.json").read_text())["returncode"] == 0


def test_fresh_sets_a_damaged_journal_aside(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "1")
    path = toy.out(home) / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"turn"', b'"trun"', 1))
    explore(home, "--iterations", "1", "--fresh")


def test_engines_started_at_once_leave_an_exploration_that_goes_on(tmp_path):
    home = toy.make_home(tmp_path)
    engines = [toy.start(home, "explore", "toy", "--iterations", "1", "--seed", str(i)) for i in range(4)]
    for engine in engines:
        engine.communicate(timeout=40)
    assert sorted(e.returncode for e in engines)[0] == 0 and all(e.returncode in (0, 2, 3) for e in engines)
    done = toy.run(home, "explore", "toy", "--iterations", "2")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_path_that_would_split_pythonpath_is_refused(tmp_path):
    home = toy.make_home(tmp_path)
    done = toy.run(home, "explore", "toy", "--root", str(tmp_path / "a:b"))
    assert done.returncode == 2 and "':'" in done.stderr


def test_what_to_do_next_repeats_the_root(tmp_path):
    home = toy.make_home(tmp_path)
    said = explore(home, "--iterations", "1", "--root", str(tmp_path / "a b"))
    assert f"ROOT='{tmp_path / 'a b'}'" in said


def test_a_new_block_carries_the_best_over_at_a_new_seed_and_repeats_nothing(tmp_path):
    home = toy.make_home(tmp_path, config=toy.CONFIG.replace("n_iter_block: 12", "n_iter_block: 5"))
    explore(home, "--iterations", "9")
    turns = [e.body.turn for e in journal.read(toy.out(home) / "journal.jsonl") if isinstance(e.body, Turned)]
    runs = [(p.config_sha, p.training_seed) for t in turns for p in t.proposals]
    assert len(set(runs)) == 9
    first = next(p for t in turns for p in t.proposals if p.iteration == 6)
    assert first.parent is None and first.base is not None and first.training_seed != 7
    assert f"This block starts from node {first.base}." in (toy.out(home) / "memory.md").read_text()


def test_each_session_is_on_record_with_its_settings(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "1")
    explore(home, "--iterations", "2")
    sessions = [e.body for e in journal.read(toy.out(home) / "journal.jsonl") if isinstance(e.body, Session)]
    assert [(s.session, s.iterations, s.scientist) for s in sessions] == [(1, 1, "offline"), (2, 2, "offline")]


def test_tracked_files_are_never_written(tmp_path):
    home = toy.make_home(tmp_path)
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    explore(home, "--iterations", "3")
    assert {p: p.read_bytes() for p in before} == before
    new = [p for p in home.rglob("*") if p.is_file() and p not in before]
    assert all(p.is_relative_to(toy.out(home)) for p in new)


def test_several_slots_run_at_once_and_give_a_sound_tree(tmp_path):
    home = toy.make_home(tmp_path, "--epochs", "3", "--epoch-s", "0.1")
    explore(home, "--iterations", "9", "--slots", "3")
    turns = [e.body.turn for e in journal.read(toy.out(home) / "journal.jsonl") if isinstance(e.body, Turned)]
    assert max(len(t.proposals) for t in turns) > 1
    assert (toy.out(home) / "analysis.md").read_text().count("## Iter ") == 9


def test_what_people_write_into_the_views_is_kept_verbatim(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "2")
    memory, analysis = (toy.out(home) / name for name in ("memory.md", "analysis.md"))
    memory.write_text(
        memory.read_text().replace("## Knowledge Base", "I doubt node 2: see the plot.\n\n## Knowledge Base")
    )
    analysis.write_text(analysis.read_text() + "\nRemark: *the rollout* was wrong `here`.\n")
    explore(home, "--iterations", "3")
    for path, words in (
        (memory, "I doubt node 2: see the plot."),
        (analysis, "Remark: *the rollout* was wrong `here`."),
    ):
        notes = path.read_text().split("## Notes from people\n")[1]
        assert notes.strip().splitlines()[0] == words
        assert path.read_text().count(words) == 1
    before = memory.read_bytes(), analysis.read_bytes()
    assert toy.run(home, "status", "toy").returncode == 0
    assert (memory.read_bytes(), analysis.read_bytes()) == before
    assert memory.read_text().splitlines()[-1].startswith("- ")


def shipped(*words):
    """Run the program on this checkout's own explorations."""
    return toy.run(toy.REPOSITORY, *words)


def test_the_numpy_example_runs_as_the_readme_says(tmp_path):
    done = shipped("explore", "ridge_numpy", "--iterations", "6", "--root", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "ridge_numpy" / "analysis.md").read_text()
    assert text.count("## Iter ") == 6 and "weights_R2=" in text and "learning_rate=" in text
    values = [
        float(line.split("weights_R2=")[1].split(",")[0]) for line in text.splitlines() if "weights_R2=" in line[:25]
    ]
    assert len(values) == 6 and max(values) > values[0]


def test_a_new_exploration_is_a_copy_that_runs(tmp_path):
    home = toy.make_home(tmp_path)
    explore(home, "--iterations", "1")
    done = toy.run(home, "new", "mine", "--from", "toy")
    assert done.returncode == 0, done.stderr
    assert not (home / "explorations" / "mine" / "out").exists()
    done = toy.run(home, "explore", "mine", "--iterations", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    for words, told in ((("new", "mine", "--from", "toy"), "is there already"), (("new", "a/b"), "expected letters"),
                        (("new", "other", "--from", "nope"), "unknown exploration")):  # fmt: skip
        done = toy.run(home, *words)
        assert done.returncode == 2 and told in done.stderr


def test_a_trainer_that_writes_only_the_log_is_enough_and_its_failures_are_told(tmp_path):
    home = toy.make_home(tmp_path, exploration=toy.EXPLORATION + 'command: [python, "{source}/train.py", "{run}"]\n')
    script = home / "explorations" / "toy" / "train.py"
    script.write_text(
        "import sys; open(sys.argv[1] + '/analysis.log', 'w').write('connectivity_R2: 0.5\\ntest_R2: nan\\n')"
    )
    explore(home, "--iterations", "2")
    assert "connectivity_R2=0.5000" in (toy.out(home) / "analysis.md").read_text()
    script.write_text("print('it forgot the log')")
    explore(home, "--iterations", "3")
    assert "analysis.log cannot be read" in (toy.out(home) / "analysis.md").read_text()


def test_stop_rules_end_an_exploration_before_its_total(tmp_path):
    rules = {"target: 0.9": "target reached: node 3", "blocks_without_gain: 1": "no gain beyond the noise floor",
             'until: "2020-01-01T00:00"': "it is past 2020-01-01 00:00 UTC"}  # fmt: skip
    counts = []
    for i, (rule, told) in enumerate(rules.items()):
        text = toy.EXPLORATION + f"stop:\n  {rule}\n"
        config = toy.CONFIG.replace("n_iter_block: 12", "n_iter_block: 6")
        home = toy.make_home(tmp_path / str(i), exploration=text, config=config)
        said = explore(home, "--iterations", "24")
        assert told in said, said
        counts.append((toy.out(home) / "analysis.md").read_text().count("## Iter "))
    assert counts[0] == 3 and 12 <= counts[1] < 24 and counts[2] == 0


def test_the_report_is_one_file_that_shows_every_node(tmp_path):
    home = toy.make_home(tmp_path, "--faults", "3=nan")
    explore(home, "--iterations", "6")
    done = toy.run(home, "report", "toy")
    assert done.returncode == 0, done.stderr
    page = (toy.out(home) / "report.html").read_text()
    for text in ("Block 1", "lr_W: 3E-3 -&gt; 1E-2", "diverged", "none (replicate of", "Working memory", "hollow"):
        assert text in page, text
    assert page.count("<circle") >= 5 + 5 and "://" not in page and "<script" not in page
    before = (toy.out(home) / "report.html").read_bytes()
    toy.run(home, "report", "toy")
    assert (toy.out(home) / "report.html").read_bytes() == before


def test_a_mark_of_a_result_stands_in_its_entry(tmp_path):
    home = toy.make_home(tmp_path, "--faults", "1=marked")
    assert "; marked: made with legacy_toy" in explore(home, "--iterations", "1")
    assert "# marked: made with legacy_toy" in (toy.out(home) / "best.yaml").read_text()
    explore(home, "--iterations", "2")
    entries = (toy.out(home) / "analysis.md").read_text().split("## Iter ")
    assert "Marked: made with legacy_toy: a known defect" in entries[1] and "Marked:" not in entries[2]
