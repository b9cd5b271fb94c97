"""How a long step tells how far it is: what is being done, how many of it are done, of how many."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
