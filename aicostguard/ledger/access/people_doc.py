"""What the API page says of log-in and people."""

from __future__ import annotations

from typing import Any

from aicostguard.ledger import apidoc
from aicostguard.ledger.access.doc import body, route
from aicostguard.ledger.access.people import ROLES
from aicostguard.ledger.access.principal import REACHES

_TEXT = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}
_PASSWORD = {"type": "string", "maxLength": 1024}
_LOGGED_IN = apidoc._json("Logged in: the session is in the cookie.", apidoc._object({"email": _TEXT, "name": _TEXT}))
_ROLE = apidoc._object({"role": _TEXT, "reach": {"enum": list(REACHES)}, "of": _MAYBE, "by": _TEXT})
_PERSON: dict[str, Any] = {
    "email": _TEXT,
    "name": _TEXT,
    "has_password": {"type": "boolean"},
    "issuer": _MAYBE,
    "created_at": _MAYBE,
    "disabled_at": _MAYBE,
    "roles": {"type": "array", "items": _ROLE},
}
_CODE = {"type": "string", "description": "Sets a password with POST /v1/password, once, within a day. Said here only."}
_CHANGING = (400, 401, 403, 404, 409, 413, 415, 422, 503)


def _open(schema: dict[str, Any], **examples: Any) -> dict[str, Any]:
    """A route that needs no key: what is sent is the proof."""
    return {**body(schema, **examples), "security": []}


POST_LOGIN = route(
    "Log in",
    "Sets a cookie that no script reads and no other site's page can use. Too many wrong passwords are a 429.",
    {200: _LOGGED_IN},
    400,
    401,
    403,
    413,
    415,
    422,
    503,
    tag="people",
    extra=_open(
        apidoc._object({"email": _TEXT, "password": _PASSWORD}, ("email", "password"), additionalProperties=False),
        one={"email": "ada@example.com", "password": "…"},
    ),
)
POST_LOGOUT = route(
    "Log out",
    "Here, or everywhere.",
    {200: apidoc._json("Logged out.", apidoc._object({"logged_out": _TEXT, "everywhere": {"type": "boolean"}}))},
    400,
    401,
    403,
    413,
    415,
    422,
    503,
    tag="people",
    extra={
        **_open(
            apidoc._object({"everywhere": {"type": "boolean"}}, additionalProperties=False), all={"everywhere": True}
        ),
        "security": [{"session": []}],
    },
)
POST_PASSWORD = route(
    "Set a password",
    "With the old one, or with a code that an admin gave. Ends every other session, and logs in.",
    {200: _LOGGED_IN},
    400,
    401,
    403,
    413,
    415,
    422,
    503,
    tag="people",
    extra=_open(
        apidoc._object({"old": _PASSWORD, "new": _PASSWORD, "code": _TEXT}, ("new",), additionalProperties=False),
        first={"code": "aicgc_…", "new": "…"},
    ),
)
GET_PEOPLE = route(
    "People",
    "Those with a role here. Needs the role admin; with the reach ledger all there are.",
    {200: apidoc._json("They.", apidoc._object({"people": {"type": "array", "items": apidoc._object(_PERSON)}}))},
    401,
    403,
    404,
    422,
    503,
    tag="people",
    extra={"security": [{"key": []}, {"session": []}]},
)
POST_PEOPLE = route(
    "Make an account",
    "Without a role, and with a code that sets its password. Needs the role admin with the reach ledger.",
    {201: apidoc._json("Made.", apidoc._object({**_PERSON, "code": _CODE}))},
    *_CHANGING,
    tag="people",
    extra=body(
        apidoc._object(
            {"email": _TEXT, "name": {"type": "string", "maxLength": 100}}, ("email",), additionalProperties=False
        ),
        one={"email": "ada@example.com", "name": "Ada"},
    ),
)
PATCH_PERSON = route(
    "Disable or enable an account",
    "Disabling ends every session at once. Needs the role admin with the reach ledger.",
    {200: apidoc._json("Changed.", apidoc._object(_PERSON))},
    *_CHANGING,
    tag="people",
    extra=body(
        apidoc._object({"disabled": {"type": "boolean"}}, ("disabled",), additionalProperties=False),
        off={"disabled": True},
    ),
)
POST_CODE = route(
    "A code for a new password",
    "Needs the role admin with the reach ledger.",
    {201: apidoc._json("Made.", apidoc._object({"email": _TEXT, "code": _CODE}))},
    *_CHANGING,
    tag="people",
    extra=body(apidoc._object({}, additionalProperties=False), one={}),
)
PUT_ROLE = route(
    "Give a role, or take it away",
    "In the project, throughout the organisation or throughout the ledger, as far as you have that yourself. An "
    "account is made if there is none.",
    {200: apidoc._json("So it is.", apidoc._object({"email": _TEXT, "role": _MAYBE, "reach": _TEXT}))},
    *_CHANGING,
    tag="people",
    extra=body(
        apidoc._object(
            {"role": {"enum": [*ROLES, None]}, "reach": {"enum": list(REACHES)}}, ("role",), additionalProperties=False
        ),
        reader={"role": "read"},
    ),
)
#: parameters of `GET /v1/oidc/login`
OIDC_LOGIN = {"target": "The path of this ledger to go to afterwards; / without it."}
GET_OIDC_LOGIN = route(
    "Log in at the provider",
    "Sends the browser to the OpenID Connect provider that `aicg serve --oidc` names.",
    {303: {"description": "To the provider."}},
    404,
    422,
    503,
    tag="people",
    extra={"security": [], "parameters": apidoc._texts(OIDC_LOGIN)},
)
GET_OIDC_CALLBACK = route(
    "Back from the provider",
    "Where the provider sends the browser: checks its answer, sets the session's cookie, and goes on.",
    {303: {"description": "Logged in."}},
    400,
    401,
    403,
    404,
    422,
    503,
    tag="people",
    extra={
        "security": [],
        "parameters": apidoc._texts(
            {"state": "Of the log-in.", "code": "Of the provider.", "error": "Of the provider."}
        ),
    },
)
