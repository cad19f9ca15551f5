"""The pages on which something is set: budgets, alerts, deliveries, settings.

Owns their rows of the table of pages.
"""

from __future__ import annotations

from aicostguard.ledger.web.pages import (
    alerts,
    audit,
    budget,
    budgets,
    channels,
    delivery,
    keys,
    people,
    prices,
    retention,
    rules,
    settings,
)
from aicostguard.ledger.web.view import Page

#: in the order of the menu; a name before the dot is that of the page whose place in the menu is marked
PAGES = (
    Page("budgets", "/budgets", "Budgets", budgets.show, period=False, actions=budgets.ACTIONS),
    Page("budgets.one", "/budgets/{name:path}", "", budget.show, budget.OWN, period=False, actions=budget.ACTIONS),
    Page("alerts", "/alerts", "Alerts", alerts.show, own=alerts.OWN, period=False, actions=alerts.ACTIONS),
    Page("alerts.rules", "/alerts/rules", "", rules.show, own=("kind",), period=False, actions=rules.ACTIONS),
    Page("alerts.rule", "/alerts/rules/{name:path}", "", rules.show_one, period=False, actions=rules.ACTIONS_ONE),
    Page("alerts.channels", "/alerts/channels", "", channels.show, ("log",), period=False, actions=channels.ACTIONS),
    Page("delivery", "/delivery", "Delivery", delivery.show, period=False),
    Page("settings", "/settings", "Settings", settings.show, period=False),
    Page("settings.keys", "/settings/keys", "", keys.show, scope="manage", period=False, actions=keys.ACTIONS),
    Page("settings.people", "/settings/people", "", people.show, scope="manage", period=False, actions=people.ACTIONS),
    Page("settings.prices", "/settings/prices", "", prices.show, period=False, actions=prices.ACTIONS),
    Page("settings.retention", "/settings/retention", "", retention.show, period=False, actions=retention.ACTIONS),
    Page("settings.audit", "/settings/audit", "", audit.show, own=audit.OWN, scope="manage", period=False),
)
