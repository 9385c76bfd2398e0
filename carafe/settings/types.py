"""The types of single settings: how each is read from text, and how secrets are hidden.

Guarantees: a message about a secret never repeats the secret, and a URL shows `***` in place of its password.
`carafe.settings.settings` declares the settings with these types.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, Secret, SecretStr

Role = Literal["view", "operate"]


class SecretUrl(Secret[str]):
    """A URL whose secret parts never show: `str()` and `repr()` put `***` in place of every part that can be a secret
    (`redact_url`).

    Every setting that is a URL has this type, so that no URL shows its secrets because somebody forgot to hide them.
    """

    def _display(self) -> str:
        return redact_url(self.get_secret_value())


@dataclass(frozen=True, slots=True)
class ApiToken:
    """Somebody who may use the HTTP API with a token. The token itself is not kept; `digest` is its hash, made by
    `hash_token`."""

    name: str
    role: Role
    digest: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DashboardUser:
    """Somebody who may sign in to the dashboard with a password. Only the argon2 hash of the password is kept."""

    name: str
    role: Role
    password_hash: str = field(repr=False)


def hash_token(token: str) -> str:
    """The digest that is kept of an API token: its SHA-256 in hex.

    A plain hash is enough because `carafe token` draws 256 random bits. Do not use it for passwords that people choose.
    """
    return hashlib.sha256(token.encode()).hexdigest()


_POSTGRES = ("postgresql", "postgres")
_REDIS = ("redis", "rediss")

_HARMLESS = frozenset(
    {
        *("application_name", "channel_binding", "connect_timeout", "dbname", "gssencmode", "host", "hostaddr"),
        *(
            "keepalives",
            "load_balance_hosts",
            "pgbouncer",
            "port",
            "schema",
            "ssl",
            "sslmode",
            "target_session_attrs",
            "user",
        ),
        *("db", "health_check_interval", "protocol", "socket_connect_timeout", "socket_timeout", "ssl_cert_reqs"),
    }
)
"""Those parameters of a server's URL that are shown with their values. Any other parameter may hold a secret: password,
sslpassword, options."""


def redact_url(url: str) -> str:
    """Returns `url` with `***` in place of every part that can be a secret, or only `***` when it cannot be read as a URL.

    In the URL of a database or of Redis, these parts are the password, the user if there is no password (Redis), and every
    parameter that is not known to be harmless. In any other URL, only scheme, host and port are shown: webhooks carry their
    tokens as user, path or query.
    """
    try:
        parts = urlsplit(url)
        if not parts.scheme or not parts.netloc:
            return "***"
        user, at, host = parts.netloc.rpartition("@")
        name, colon, _ = user.partition(":")
        scheme = parts.scheme.partition("+")[0]
        if scheme not in (*_POSTGRES, *_REDIS):
            rest = "/***" if parts.path.strip("/") else parts.path
            rest += "?***" if parts.query else ""
            return f"{parts.scheme}://{'***@' if at else ''}{host}{rest}"
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            return "***"  # an unescaped / ? or # in the password: what looks like a path is part of it
        if colon:
            name += ":***"
        elif at and scheme in _REDIS:
            name = "***"
        query = urlencode(
            [(key, value if key.lower() in _HARMLESS else "***") for key, value in parse_qsl(parts.query)], safe="*/:,"
        )
        return urlunsplit((parts.scheme, f"{name}{at}{host}", parts.path, query, "***" if parts.fragment else ""))
    except ValueError:
        return "***"


def listed(value: object) -> object:
    """The entries of a list that an environment variable holds, either as a JSON list, or as entries separated by commas. In
    the second form, empty entries are dropped."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError as fault:
            raise ValueError(f"must be names separated by commas or a JSON list: {fault}") from None
    return [part.strip() for part in text.split(",") if part.strip()]


_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def _module(value: str) -> str:
    if not _MODULE.fullmatch(value):
        raise ValueError(f"must be module names such as 'shop.jobs', separated by commas (got {value!r})")
    return value


def is_target(value: str) -> bool:
    """Whether the text has the form of a module and a name in it, such as ``shop.web:create_app``."""
    module, colon, attribute = value.partition(":")
    return bool(_MODULE.fullmatch(module) and (not colon or _MODULE.fullmatch(attribute)))


def _target(value: str) -> str:
    if not is_target(value):
        raise ValueError(f"must be a module and a name in it, such as 'shop.web:create_app' (got {value!r})")
    return value


def upper_case(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def open_to(value: object) -> object:
    """Reads ALLOW_OPEN_API, the setting that says who may call without a token. In older releases it was a boolean, so every
    spelling of true and false is accepted too."""
    if isinstance(value, (bool, int)):
        value = str(value)
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    return "everybody" if word in _TRUE else "never" if word in _FALSE else word


_TRUE, _FALSE = frozenset({"true", "t", "yes", "y", "on", "1"}), frozenset({"false", "f", "no", "n", "off", "0"})
"""The words that pydantic reads as true and as false."""


def lower_case(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _url(schemes: tuple[str, ...], example: str) -> Callable[[SecretUrl], SecretUrl]:
    """Returns a function that checks a URL's scheme and host. Its error message never repeats the URL, since any part of the
    URL may be secret."""

    def check(value: SecretUrl) -> SecretUrl:
        wants = f"must be a URL {example if example.startswith('with ') else f'such as {example}'}"
        try:
            parts = urlsplit(value.get_secret_value().strip())
            _ = parts.port  # raises when it is not a number
        except ValueError:
            raise ValueError(f"{wants} (it cannot be read as a URL)") from None
        if parts.scheme.lower() not in schemes:
            raise ValueError(f"{wants} (its scheme is none of {', '.join(s + '://' for s in schemes)})")
        if not parts.hostname and "host=" not in parts.query:
            raise ValueError(f"{wants} (it names no host)")
        return value

    return check


def _postgres(value: SecretUrl) -> SecretUrl:
    """Checks every part of a Postgres URL, and removes the name of a driver from it (`postgresql+asyncpg`), since Carafe
    chooses the driver itself."""
    from carafe.postgres_url import read

    url = value.get_secret_value().strip()
    read(url)  # a fault is a ValueError, which is what pydantic expects
    return SecretUrl(re.sub(r"^[A-Za-z0-9+]+://", "postgresql://", url))


def _trace_url(value: SecretUrl) -> SecretUrl:
    wants = "must be a URL with {trace_id} in it, such as https://tempo.example.org/trace/{trace_id}"
    text = value.get_secret_value().strip()
    _url(("http", "https"), wants.removeprefix("must be a URL "))(value)
    if set(re.findall(r"\{[^{}]*\}", text)) != {"{trace_id}"}:
        raise ValueError(f"{wants}, and no other name in braces")
    return SecretUrl(text)


def _otlp_headers(value: SecretStr) -> SecretStr:
    for part in value.get_secret_value().split(","):
        name, equals, _ = part.strip().partition("=")
        if part.strip() and (not equals or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip())):
            raise ValueError(
                "must be name=value, separated by commas, with values URL-encoded (an entry is not of that form)"
            )
    return value


_ROLES: dict[str, Role] = {"view": "view", "operate": "operate"}
_TOKEN_FORM = (
    "must be name:role:digest, separated by commas, where role is view or operate, and digest is the SHA-256 of the "
    "token in hex; `carafe token NAME ROLE` makes a token and its entry"
)


def _token(value: object) -> object:
    if isinstance(value, ApiToken):
        return value
    parts = value.split(":") if isinstance(value, str) else []
    if len(parts) != 3 or not parts[0]:
        raise ValueError(f"{_TOKEN_FORM} (an entry is not of that form)")
    name, role, digest = (part.strip() for part in parts)
    if role not in _ROLES:
        raise ValueError(f"{_TOKEN_FORM} (the role of {name!r} is not view or operate)")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise ValueError(f"{_TOKEN_FORM} (the digest of {name!r} is not 64 hex digits; never put the token itself here)")
    return ApiToken(name, _ROLES[role], digest.lower())


def _tokens(value: tuple[ApiToken, ...]) -> tuple[ApiToken, ...]:
    names = [token.name for token in value]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"must name each token once (twice: {', '.join(twice)})")
    return value


_USER_FORM = (
    "must be name:role:hash, separated by commas, where role is view or operate, and hash is argon2's of the password; "
    "`carafe dashboard hash-password NAME ROLE` makes an entry"
)
_ARGON2 = re.compile(r"\$argon2(id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}")


def _listed_users(value: object) -> object:
    """Like `listed`, for entries that contain a hash with commas in it: a comma or line break only begins a new entry when
    `name:` follows."""
    if isinstance(value, str) and not value.strip().startswith("["):
        return [part for part in re.split(r"\s*[,\n]\s*(?=[^,:$\n]+:)", value.strip().strip(",")) if part]
    return listed(value)


def _user(value: object) -> object:
    if isinstance(value, DashboardUser):
        return value
    parts = value.split(":", 2) if isinstance(value, str) else []
    if len(parts) != 3 or not parts[0].strip():
        raise ValueError(f"{_USER_FORM} (an entry is not of that form)")
    name, role, hashed = (part.strip() for part in parts)
    if role not in _ROLES:
        raise ValueError(f"{_USER_FORM} (the role of {name!r} is not view or operate)")
    if not _ARGON2.fullmatch(hashed):
        eaten = (
            "; its $ signs are gone: shells and compose files want it in single quotes"
            if hashed.startswith("argon2")
            else ""
        )
        raise ValueError(f"{_USER_FORM} ({name!r} has no argon2 hash{eaten}; never put the password itself here)")
    return DashboardUser(name, _ROLES[role], hashed)


def _users(value: tuple[DashboardUser, ...]) -> tuple[DashboardUser, ...]:
    names = [user.name for user in value]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"must name each user once (twice: {', '.join(twice)})")
    return value


SECRET_KEY_LENGTH = 32
"""The minimum number of characters of a key in DASHBOARD_SECRET_KEYS."""


def _secret_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < SECRET_KEY_LENGTH:
        raise ValueError(
            f"must be keys of {SECRET_KEY_LENGTH} random characters or more, separated by commas; "
            "`carafe dashboard secret-key` makes one"
        )
    return value


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value)
    except ValueError:
        raise ValueError(
            f"must be networks such as 10.0.0.0/8 or single addresses, separated by commas (got {value!r}"
            + (": the address has bits beyond the network's)" if "/" in value else ")")
        ) from None


def _header(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+", value):
        raise ValueError(f"must be the name of a header such as X-Forwarded-User (got {value!r})")
    return value


def _prefix(value: str) -> str:
    value = value.strip().rstrip("/")
    if (value and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value)) or ".." in value.split("/") or "." in value.split("/"):
        raise ValueError(f"must be a path such as /ops/jobs, of letters, digits and . _ ~ - (got {value[:80]!r})")
    return value


DatabaseUrl = Annotated[SecretUrl, AfterValidator(_postgres)]
RedisUrl = Annotated[SecretUrl, AfterValidator(_url(("redis", "rediss"), "redis://:password@host:6379/0"))]
HttpUrl = Annotated[SecretUrl, AfterValidator(_url(("http", "https"), "https://example.org/webhook"))]
TraceUrl = Annotated[SecretUrl, AfterValidator(_trace_url)]
OtlpHeaders = Annotated[SecretStr, AfterValidator(_otlp_headers)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
ModuleName = Annotated[str, AfterValidator(_module)]
ModuleNames = Annotated[tuple[ModuleName, ...], BeforeValidator(listed)]
Target = Annotated[str, AfterValidator(_target)]
Tokens = Annotated[
    tuple[Annotated[ApiToken, BeforeValidator(_token)], ...], BeforeValidator(listed), AfterValidator(_tokens)
]
DashboardUsers = Annotated[
    tuple[Annotated[DashboardUser, BeforeValidator(_user)], ...], BeforeValidator(_listed_users), AfterValidator(_users)
]
SecretKeys = Annotated[tuple[Annotated[SecretStr, AfterValidator(_secret_key)], ...], BeforeValidator(listed)]
Networks = Annotated[tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...], BeforeValidator(listed)]
Names = Annotated[tuple[str, ...], BeforeValidator(listed)]
PathPrefix = Annotated[str, AfterValidator(_prefix)]
HeaderName = Annotated[str, AfterValidator(_header)]


class InSeconds:
    """Marks a number as a number of seconds, for the text that says what a setting accepts."""


Seconds = Annotated[float, Field(allow_inf_nan=False), InSeconds]
Port = Annotated[int, Field(ge=0, le=65_535)]
