"""Damage at random: `python -m tests.damage --cases N --seed S` prints what came of each kind of damage."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Run a campaign, print its table and the failures; 1 if there is one."""
    sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does
    from seed import SEED

    from damage.campaign import Campaign, table
    from damage.case import REFUSED

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--skip", type=int, default=0, help="cases of the seed to leave out")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=(), help="kinds, as in the table; all by default")
    parser.add_argument("--folder", type=Path, help="kept; a temporary one by default")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        campaign = Campaign(asked.folder or Path(scratch), asked.seed, only=asked.only)
        results = []
        for result in campaign.run(asked.cases, asked.at_once, asked.skip):
            results.append(result)
            print(f"{time.strftime('%T')} {len(results):4} {result}", flush=True)
            if result.failed or result.verdict == REFUSED:
                print("".join(f"      {line}\n" for line in result.details), end="", flush=True)
    print(table(results))
    return 1 if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
