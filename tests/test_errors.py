import re

from sidecar import errors
from sidecar.errors import SidecarError


def drawn() -> dict[str, tuple[str, int]]:
    """Each class that the docstring draws: the class it hangs from, and its depth."""
    found: dict[str, tuple[str, int]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r" {4}([\u2502\u251c\u2514\u2500 ]*)([A-Z]\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            found[match[2]] = (above[depth - 1] if depth else "Exception", depth)
    return found


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    values = vars(errors).items()
    classes = {name: value for name, value in values if isinstance(value, type) and issubclass(value, Exception)}
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        name: value.__base__.__name__ for name, value in classes.items() if value.__base__
    }
    assert all(issubclass(value, SidecarError) for value in classes.values())
