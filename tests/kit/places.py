"""Where things lie: the checkout's folders, and the real data that only our own machines have."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
SOURCE = ROOT / "src" / "mfd_cli"
EXAMPLES = ROOT / "examples"
FIXTURES = TESTS / "fixtures"
SHARED = ROOT.parent / "shared" / "data"
"""Real data; a test that uses them is skipped where they are missing."""
