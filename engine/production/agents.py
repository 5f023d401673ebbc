"""The 61 agents of the production, as they stand in ConfigMap `claude-enhancer-agents`."""

from __future__ import annotations

import json

_ROLES = {
    "development": (
        "backend-architect", "frontend-specialist", "fullstack-engineer", "api-designer",
        "mobile-developer", "python-pro", "typescript-pro", "golang-pro", "rust-pro", "java-pro",
        "database-specialist", "graphql-architect", "refactoring-guide", "legacy-migrator",
    ),
    "quality": (
        "test-engineer", "e2e-tester", "performance-tester", "load-generator", "fuzz-tester",
        "accessibility-auditor", "code-reviewer", "security-auditor", "dependency-auditor",
        "license-checker", "regression-hunter",
    ),
    "infrastructure": (
        "devops-engineer", "cloud-architect", "kubernetes-operator", "release-manager",
        "site-reliability", "network-planner", "observability-engineer", "incident-responder",
        "cost-optimiser", "backup-keeper",
    ),
    "data": (
        "data-engineer", "data-scientist", "analytics-engineer", "ml-engineer", "prompt-engineer",
        "vector-indexer", "etl-builder", "schema-steward",
    ),
    "product": (
        "requirements-analyst", "product-planner", "ux-designer", "technical-writer",
        "translator", "localisation-checker", "release-notes-writer", "support-analyst",
    ),
    "coordination": (
        "orchestrator", "phase-manager", "context-keeper", "conflict-resolver", "task-splitter",
        "priority-scheduler", "memory-curator", "quality-gatekeeper", "session-keeper",
        "self-optimiser",
    ),
}  # fmt: skip


def agent_configs() -> dict[str, str]:
    """File name in the ConfigMap → JSON configuration, for each of the 61 agents."""
    return {
        f"{name}.json": json.dumps(
            {"name": name, "group": group, "enabled": True, "max_parallel": 4, "timeout": 300}
        )
        for group, names in _ROLES.items()
        for name in names
    }
