"""Names for containers whose owner gave none: two words, as Docker does, from the sea."""

from __future__ import annotations

import os

_HOW = """
able amber ardent bold brave bright brisk calm candid clear cool daring deft eager early fair fleet fond frank
gentle glad golden grand happy hardy honest humble jolly keen kind lively loyal lucky mellow merry mild nimble
noble patient plucky proud quick quiet rapid ready salty serene sharp shy silent sleek smart snug sober solid spry
stable steady stout sturdy sunny sure swift tidy trim true trusty vivid warm wise witty young zesty
""".split()
_WHAT = """
albatross anchor ballast barnacle beacon bilge binnacle boatswain bollard bowline bowsprit brig buoy cabin capstan
cargo clipper compass coral cutter davit deck dolphin dory fathom ferry fluke foremast frigate galley gangway gull
halyard harbour hatch hawser helm hull jetty jib kayak keel ketch kraken lagoon lantern larboard lighthouse lugger
mainsail marina mast mizzen mooring narwhal oar osprey otter pelican pier pilot porpoise porthole quay reef
regatta rigging rudder sail schooner sextant shoal skiff sloop spar spinnaker starboard stern swell tern tide
tiller topsail trawler tug wharf whale winch windlass yawl
""".split()


def generate() -> str:
    """A random name, such as "steady_binnacle"."""
    first, second = os.urandom(1)[0], os.urandom(1)[0]
    return f"{_HOW[first % len(_HOW)]}_{_WHAT[second % len(_WHAT)]}"


_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_.-")


def is_valid(name: str) -> bool:
    """Docker's rule for container names: [a-zA-Z0-9][a-zA-Z0-9_.-]+"""
    return 1 < len(name) <= 255 and name[0] in _FIRST and _REST.issuperset(name)
