"""Who may ask and what they may ask for: API keys, agents and tools, webhook tokens, secrets."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field

DEFAULT_ACCOUNT = "default"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
AGENT_STATUSES = ("active", "inactive", "missing")


def secret_hash(value: str) -> str:
    """Return a short name for a key or token, fit for logs: the same for the same one, and no way back."""
    return hashlib.sha256(value.encode()).hexdigest()[:12]


def is_uuid(value: str) -> bool:
    """Say whether this is an id as Flowyble has them."""
    return _UUID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Key:
    """An API key; `account` is Flowyble's organization or Snorbe's workspace."""

    vendor: str
    value: str = field(repr=False)
    account: str = DEFAULT_ACCOUNT
    api_access: bool = True
    has_credits: bool = True


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent, or a tool at Flowyble; `missing` is one the vendor answers 404 for."""

    vendor: str
    kind: str
    id: str
    name: str
    created_at: float
    status: str = "active"
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Webhook:
    """An incoming webhook; with a `secret` the sender has to sign."""

    token: str = field(repr=False)
    kind: str
    agent_id: str
    secret: str | None = field(default=None, repr=False)
    misconfigured: bool = False
    account: str = DEFAULT_ACCOUNT


@dataclass
class Accounts:
    """The registers of one simulator.

    :param registered_only: an agent that was not registered is missing; otherwise any id is an agent.
    """

    registered_only: bool = False
    keys: dict[tuple[str, str], Key] = field(default_factory=dict)
    agents: dict[tuple[str, str, str], Agent] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    secrets: defaultdict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))

    def add_key(self, key: Key) -> None:
        """Add a key, or replace what is known of it."""
        self.keys[key.vendor, key.value] = key

    def find_key(self, vendor: str, value: str | None) -> Key | None:
        """Return the key with this value; None if it is missing, unknown or revoked."""
        return None if value is None else self.keys.get((vendor, value))

    def add_agent(self, agent: Agent) -> None:
        """Add an agent or tool, or replace what is known of it."""
        self.agents[agent.vendor, agent.kind, agent.id] = agent

    def find_agent(self, vendor: str, kind: str, agent_id: str) -> Agent | None:
        """Return the agent or tool; None if the vendor has no such one."""
        agent = self.agents.get((vendor, kind, agent_id))
        if agent is None and not self.registered_only:
            agent = Agent(vendor, kind, agent_id, f"{kind} {agent_id[:8]}", created_at=0.0)
        return agent if agent and agent.status != "missing" else None

    def default_agent(self, vendor: str, kind: str) -> Agent:
        """Return the agent a run goes to when nobody names one."""
        return next(
            agent
            for agent in self.agents.values()
            if (agent.vendor, agent.kind, agent.is_default) == (vendor, kind, True)
        )
