"""Messages about flags that cannot be parsed, in one sentence each."""

from __future__ import annotations

import re

from absl import flags

from zeroseg_jax.commands.recipes import explain_override

NO_CONFIG = "--config: get_config() returns nothing; return a ConfigDict."
_NO_VARIANTS = "--config: this recipe has no variants; drop the colon and what follows."


def explain(error: flags.Error, argv: list[str], own: list[str], example: str) -> str:
    """Return one sentence for an error of absl.

    Args:
      error: exception of the parser.
      argv: command line.
      own: flags of the command.
      example: command line shown when a flag or its value is missing.
    """
    if isinstance(error, flags.UnrecognizedFlagError):
        from zeroseg_jax.config import suggest

        return f"--{error.flagname}: no such flag; {suggest(error.flagname, own, '--')}"
    message = str(error)
    hint = f"; for example: {example}" if example else "."
    if missing := re.findall(r"Flag (--\w+) must have a value other than None", message):
        if "--config" in missing and any(a.startswith("--config") for a in argv):
            return NO_CONFIG
        return f"{', '.join(missing)}: missing{hint}"
    if explained := explain_override(message, argv):
        return explained
    if found := re.fullmatch(r"Missing value for flag -*(\w+)", message):
        return f"--{found[1]}: its value is missing{hint}"
    if "Traceback (most recent call last)" in message:
        # An exception of a recipe arrives as the text of its traceback; the last line counts.
        message = message.strip().splitlines()[-1].partition(": ")[2] or message
        return _NO_VARIANTS if "get_config() takes 0 positional arguments" in message else message
    if found := re.fullmatch(r"flag --(\w+)=(.*?): (.*)", message, re.DOTALL):
        return f"--{found[1]}: {_explain_value(found[2], found[3])}"
    return message


def _explain_value(value: str, reason: str) -> str:
    if "invalid literal for int" in reason:
        return f"{value!r} is not a whole number; give one."
    if "could not convert string to float" in reason:
        return f"{value!r} is not a number; give one."
    if "Non-boolean" in reason:
        return f"{value!r} is neither true nor false; give one of the two."
    if choices := re.fullmatch(r"value should be one of <(.*)>", reason):
        return f"{value!r} is not one of {', '.join(choices[1].split('|'))}."
    return f"{reason}."
