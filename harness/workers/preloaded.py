"""What a fork server imports first: it collects garbage seldom from then on, and so do its workers."""

from __future__ import annotations

from harness.core.garbage import collect_seldom

collect_seldom()
