"""The witness file: what it remembers, whatever happens to it; and the command that does so outside."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackbook.events.log import Evidence
from trackbook.runtime.integrity import witness_file as module
from trackbook.runtime.integrity.witness_command import WitnessCommand, WitnessFailed
from trackbook.runtime.integrity.witness_file import Head, Witness

FOUND = Evidence("e1", "gap", "sequence 3 is missing", 3, 3)


def _filled(path: Path, heads: int = 5) -> Witness:
    witness = Witness(path, "i1")
    for seq in range(1, heads + 1):
        witness.record_head(seq, f"{seq:064}")
    return witness


def test_the_last_head_and_all_evidence_are_remembered(tmp_path: Path) -> None:
    """What was written is there at the next start; a lower sequence that comes late changes nothing."""
    witness = _filled(tmp_path / "w")
    witness.record_head(4, "late")
    witness.record(FOUND)
    witness.close()

    again = Witness(tmp_path / "w", "i1")

    assert again.head == Head(5, f"{5:064}", "i1")
    assert again.evidence == {"e1": FOUND}
    assert not again.damaged_lines
    again.close()


def test_the_head_of_another_installation_is_none(tmp_path: Path) -> None:
    """A file that another log wrote says nothing of this one."""
    _filled(tmp_path / "w").close()

    again = Witness(tmp_path / "w", "i2")

    assert again.head.seq == 0
    again.close()


def test_an_accepted_loss_turns_it_back(tmp_path: Path) -> None:
    """The head after an accepted loss counts, although it is lower."""
    witness = _filled(tmp_path / "w")
    witness.rewind(Head(3, "three"))
    witness.close()

    again = Witness(tmp_path / "w", "i1")

    assert (again.head.seq, again.head.sha256) == (3, "three")
    again.close()


@given(data=st.data())
def test_no_single_flipped_bit_or_cut_makes_it_lead_or_forget_evidence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A damaged file may lag; it never names a head that was not written, and evidence survives one bit."""
    path = tmp_path_factory.mktemp("witness") / "w"
    witness = _filled(path)
    witness.record(FOUND)
    witness.record_head(6, f"{6:064}")
    witness.close()
    whole = path.read_bytes()
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        cut = False
    else:
        del damaged[data.draw(st.integers(0, len(whole) - 1)) :]
        cut = True
    path.write_bytes(damaged)

    again = Witness(path, "i1")

    assert again.head.seq <= 6
    assert again.head.sha256 in ("", f"{again.head.seq:064}")
    assert cut or again.evidence == {"e1": FOUND}
    again.record_head(7, f"{7:064}")
    again.close()
    once_more = Witness(path, "i1")
    assert once_more.head.seq == 7
    once_more.close()


def test_it_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has grown is rewritten with what still counts."""
    monkeypatch.setattr(module, "_LARGEST", 4096)
    witness = _filled(tmp_path / "w", 1)
    witness.record(FOUND)
    for seq in range(2, 500):
        witness.record_head(seq, f"{seq:064}")
        assert (tmp_path / "w").stat().st_size < 5000
    witness.close()

    again = Witness(tmp_path / "w", "i1")

    assert again.head.seq == 499
    assert again.evidence == {"e1": FOUND}
    again.close()


def test_a_full_disk_is_a_problem_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is on the log already: the witness lags, says so, and catches up."""
    witness = _filled(tmp_path / "w")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        witness.record_head(6, "six")
        assert "No space left" in witness.problem
        with pytest.raises(OSError, match="No space left"):
            witness.record(FOUND)
    witness.record_head(7, "seven")

    assert not witness.problem
    witness.close()
    again = Witness(tmp_path / "w", "i1")
    assert again.head.seq == 7
    again.close()


async def test_a_command_is_given_each_head_and_tells_the_last(tmp_path: Path) -> None:
    """What a command outside was given, it tells at the next start; another installation's head is none."""
    file = tmp_path / "heads"
    command = f"tail -n 1 {file} 2>/dev/null; echo; exec cat >> {file}"
    first = await WitnessCommand.start(command, "i1")
    assert first.head.seq == 0
    for seq in (1, 2, 3):
        first.record_head(seq, f"sha-{seq}")
    first.close()

    again = await WitnessCommand.start(command, "i1")
    other = await WitnessCommand.start(command, "i2")

    assert again.head == Head(3, "sha-3", "i1")
    assert other.head.seq == 0
    again.close()
    other.close()


async def test_a_command_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    """Its pipe fills, heads are skipped, and it gets the latest when it reads again."""
    file, gate = tmp_path / "heads", tmp_path / "gate"
    os.mkfifo(gate)
    command = await WitnessCommand.start(f"echo; cat {gate} >/dev/null; exec cat > {file}", "i1")
    for seq in range(1, 3000):
        command.record_head(seq, f"{seq:064}")
    gate.write_text("go\n")

    command.close()

    assert file.read_text().splitlines()[-1].startswith('{"seq":2999,')
    assert not command.problem


@pytest.mark.parametrize("command", ["echo nonsense", 'echo \'{"seq": "x"}\''])
async def test_a_command_that_tells_no_head_is_refused(command: str) -> None:
    """A start does not go on without the witness that was asked for."""
    with pytest.raises(WitnessFailed, match="returns no last head"):
        await WitnessCommand.start(command, "i1")


async def test_a_command_that_ends_is_a_problem() -> None:
    """Heads that nobody takes are reported, and nothing else fails."""
    command = await WitnessCommand.start("echo", "i1")
    command._process.wait()

    command.record_head(1, "one")

    assert "takes no heads any more" in command.problem
    command.close()
