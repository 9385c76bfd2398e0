"""A plugin for mypy that checks the keywords in the class line of a job (``plugins = ["pydantic.mypy", "carafe.mypy"]``).

mypy itself does not check the class keywords of a class with a metaclass, and pydantic's models have a metaclass. Carafe
refuses the same mistakes with the same messages when the class is imported; the plugin reports them earlier, when types are
checked. The other types of the library need no plugin.
Must never: be imported by the library.
"""

from collections.abc import Callable

from mypy.nodes import Expression, FloatExpr, IntExpr, NameExpr, StrExpr, TypeInfo
from mypy.plugin import ClassDefContext, Plugin

from carafe.jobs.declaring import KEYWORDS, KIND, kind_words, takes, unknown_keyword
from carafe.jobs.options import CLASS_OPTIONS

JOB = "carafe.jobs.definition.Job"

_TYPES: dict[str, tuple[tuple[type[Expression], ...], str]] = {
    "text": ((StrExpr,), "a text"),
    "integer": ((IntExpr,), "a whole number"),
    "duration": ((IntExpr, FloatExpr), "a number of seconds or a timedelta"),
}
_WANTED = {
    "kind": _TYPES["text"],
    "version": _TYPES["integer"],
    **{name: _TYPES[option.what] for name, option in CLASS_OPTIONS.items() if option.what in _TYPES},
}
"""For each keyword of a job's class: the kinds of literal that the keyword accepts, and a description of these in words."""


class Declarations(Plugin):
    """Checks the class lines of jobs."""

    def get_customize_class_mro_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        """Returns the function that checks a class line. mypy calls this method for each class after it has analysed the
        parent classes. pydantic's plugin uses another of mypy's hooks, so both plugins work together."""
        return check_class_line


def check_class_line(context: ClassDefContext) -> None:
    """Report class keywords that a job does not accept, and literals of a type that the keyword does not accept."""
    parents = context.cls.info.mro[1:]
    if all(parent.fullname != JOB for parent in parents):
        return
    for keyword, value in context.cls.keywords.items():
        name = context.cls.name
        if keyword == "metaclass":
            continue
        if keyword not in KEYWORDS:
            if not takes(keyword) and not any(map(_takes_keywords, parents)):
                context.api.fail(f"{name}: {unknown_keyword(keyword)}", context.cls)
        elif _is_literal(value) and not isinstance(value, _literals(keyword)) and not _is_default(keyword, value):
            context.api.fail(f"{name}: {keyword} must be {_WANTED[keyword][1]}", value)
        elif keyword == "kind" and isinstance(value, StrExpr) and not KIND.fullmatch(value.value):
            context.api.fail(f"{name}: {kind_words(value.value)}", value)
        elif keyword == "version" and "kind" not in context.cls.keywords:
            context.api.fail(f"{name}: version belongs to a kind: set it in the class that has the kind", value)


def _takes_keywords(parent: TypeInfo) -> bool:
    """Whether `parent` is a class of the application's own that takes class keywords (has ``__init_subclass__``)."""
    return "__init_subclass__" in parent.names and parent.fullname.partition(".")[0] not in (
        "builtins",
        "carafe",
        "pydantic",
    )


def _literals(keyword: str) -> tuple[type[Expression], ...]:
    return _WANTED[keyword][0] if keyword in _WANTED else (Expression,)


def _is_literal(value: Expression) -> bool:
    return isinstance(value, StrExpr | IntExpr | FloatExpr) or (
        isinstance(value, NameExpr) and value.name in ("None", "True", "False")
    )


def _is_default(keyword: str, value: Expression) -> bool:
    return isinstance(value, NameExpr) and value.name == "None" and keyword != "version"


def plugin(version: str) -> type[Plugin]:
    """The plugin's class. mypy calls this function of every plugin's module."""
    return Declarations
