"""The folders of pipelines on the command line: missing, purged, and of an executor that is away."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from command_line import PATIENCE, CommandLine, folder_of_letters, run_letters


def test_a_reader_needs_no_server(tmp_path: Path) -> None:
    """Where none runs, commands use the data directory themselves."""
    cli = CommandLine(tmp_path)
    run_letters(cli)

    out, err = cli.both("files", "list", "letters:vfroot")
    assert out.splitlines() == ["notes"]
    assert "no server is running" in err
    assert cli("files", "cat", "letters:vfroot/notes") == "shared\n"
    assert "→ letters:vfroot/put" in cli("files", "put", "letters.yaml", "letters:vfroot/put")


def test_a_removed_folder_shows_as_missing_and_is_made_anew(tmp_path: Path) -> None:
    """In words, by `pipeline show` and by whatever asks for its files; never as if it had been empty."""
    cli = CommandLine(tmp_path)
    with cli.up():
        cli("pipeline", "apply", cli.pipeline("letters", write="true"))
        assert "none yet on local" in cli("pipeline", "show", "letters")
        run_letters(cli)
        assert f"folder:   {folder_of_letters(cli).name} on local" in " ".join(
            cli("pipeline", "show", "letters").splitlines()
        ).replace("folder:    ", "folder:   ")
        shutil.rmtree(folder_of_letters(cli))

        assert "missing on local: it was there and was removed" in cli("pipeline", "show", "letters")
        _, err = cli.both("files", "list", "letters", code=1)
        assert "folder_missing" in err
        assert "trackbook files create" in err
        assert "is there" in cli("files", "create", "letters")
        assert cli("files", "list", "letters").splitlines() == ["vfroot/"]


def test_a_purge_deletes_all_and_says_so(tmp_path: Path) -> None:
    """The pipeline and its folder, with --yes where nobody can be asked; without --purge the folder stays."""
    cli = CommandLine(tmp_path)
    with cli.up():
        run_letters(cli)
        place = folder_of_letters(cli)
        _, err = cli.both("pipeline", "delete", "letters", "--purge", code=1)
        assert "--yes" in err
        assert place.exists()
        assert cli.json("pipeline", "show", "letters")["state"] == "active"

        kept = cli("pipeline", "delete", "letters", "--yes")
        assert f"trackbook pipeline delete {place.name} --purge" in kept
        assert place.exists()
        _, err = cli.both("files", "put", "letters.yaml", f"{place.name}:vfroot/x", code=1)
        assert "pipeline_deleted" in err
        assert cli("files", "cat", f"{place.name}:vfroot/notes") == "shared\n"

        assert f"local: the folder {place.name} is deleted" in cli(
            "pipeline", "delete", "letters", "--purge", "-y"
        )
        assert not place.exists()
        assert "there was no folder" in cli("pipeline", "delete", place.name, "--purge", "--yes")

        run_letters(cli)
        place = folder_of_letters(cli)
        reply = cli.json("pipeline", "delete", "letters", "--purge", "--yes")
        assert reply["status"] == "accepted"
        assert reply["folders"] == [{"executor": "local", "name": place.name, "deleted": True}]
        assert not place.exists()
        run_letters(cli)
        cli("pipeline", "delete", "letters", "--yes")
        _, err = cli.both("pipeline", "delete", "nothing", "--purge", "--yes", code=1)
        assert "there is no pipeline 'nothing'" in err
        _, err = cli.both("pipeline", "delete", "letters", "--purge", "--yes", code=1)
        assert "several deleted pipelines were called 'letters'" in err


def test_a_purge_waits_for_no_job_and_takes_none_its_folder(tmp_path: Path) -> None:
    """While a job has not ended nothing is deleted, the pipeline neither."""
    cli = CommandLine(tmp_path)
    with cli.up():
        file = cli.pipeline("long", sleep="sleep 600")
        cli("run", file, "--detach")
        job = cli.json("job", "list")[0]["id"]
        _, err = cli.both("pipeline", "delete", "long", "--purge", "--yes", code=1)
        assert f"trackbook job cancel {job[:8]} --wait" in err
        assert cli.json("pipeline", "show", "long")["state"] == "active"

        cli("job", "cancel", job, "--wait")
        assert "is deleted" in cli("pipeline", "delete", "long", "--purge", "--yes")


def test_what_can_t_be_purged_is_reported_and_done_later(tmp_path: Path) -> None:
    """Exit code 1 and the way to go on; the same command again does the rest."""
    cli = CommandLine(tmp_path)
    with cli.up():
        run_letters(cli)
        place = folder_of_letters(cli)
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
        out = cli("pipeline", "delete", "letters", "--purge", "--yes", code=1)
        assert "Pipeline letters was deleted" in out
        assert "local: not deleted:" in out
        assert "is a link" in out
        assert f"trackbook pipeline delete {place.name} --purge" in out
        assert (tmp_path / "elsewhere" / "vfroot" / "notes").exists()

        place.unlink()
        (tmp_path / "elsewhere").rename(place)
        assert "is deleted" in cli("pipeline", "delete", place.name, "--purge", "--yes")
        assert not place.exists()


def test_a_cluster_that_is_away_holds_up_nothing(tmp_path: Path) -> None:
    """Its files can't be had, in words and at once; what others have can, and is purged."""
    cli = CommandLine(tmp_path)
    cli.data.mkdir(parents=True)
    settings = cli.data / "executors.toml"
    settings.touch(0o600)
    settings.write_text(
        '[backendai.away]\nendpoint = "http://127.0.0.1:9"\naccess_key = "AKIA"\nsecret_key = "s"\n'
    )
    with cli.up():
        run_letters(cli)
        began = time.monotonic()
        _, err = cli.both("files", "list", "letters", "--executor", "backendai/away", code=1)
        assert "executor_unavailable" in err
        assert "cluster 'away'" in err
        file = cli.home / "there.yaml"
        file.write_text(json.dumps({"name": "there", "executor": "backendai/away", "tasks": []}))
        cli("pipeline", "apply", str(file))
        assert "its executor did not answer" in cli("pipeline", "show", "there")
        kept = cli("pipeline", "delete", "letters", "--yes")
        assert "Its folder on local stays. To delete it:" in kept
        out = cli("pipeline", "delete", "letters", "--purge", "--yes", code=1)
        assert "local: the folder" in out
        assert "backendai/away: not deleted: " in out
        assert time.monotonic() - began < PATIENCE / 4
