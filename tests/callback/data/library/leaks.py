# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A module that says a text in every way that a module has."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        {"text": {"type": "str"}, "api_key": {"type": "str", "no_log": True}, "raises": {"type": "bool"}}
    )
    text = module.params["text"]
    module.warn(f"warning {text}")
    module.deprecate(f"deprecation {text}", version="9.0.0", collection_name="kubeferry.pvc")
    if module.params["raises"]:
        raise RuntimeError(text)
    module.exit_json(
        changed=True,
        msg=text,
        stdout=text,
        stderr=text,
        nested={"list": [text]},
        diff={"before": "", "after": text},
    )


if __name__ == "__main__":
    main()
