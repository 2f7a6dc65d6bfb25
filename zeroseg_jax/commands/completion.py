"""Shell completion of commands, flags, values and file names: zeroseg completion bash.

bash: zeroseg completion bash > ~/.local/share/bash-completion/completions/zeroseg
zsh:  zeroseg completion zsh > ~/.zfunc/_zeroseg, with fpath=(~/.zfunc $fpath) in ~/.zshrc
fish: zeroseg completion fish > ~/.config/fish/completions/zeroseg.fish

Values of --config, --benchmark, --preset, --model and of flags with choices are completed, written
as --FLAG=VALUE.
"""

from __future__ import annotations

from absl import flags as absl_flags

from zeroseg_jax.commands.compute import DEVICES
from zeroseg_jax.commands.extras import explain_missing
from zeroseg_jax.commands.flags import define_alone
from zeroseg_jax.commands.main import VERBS, load_verb
from zeroseg_jax.commands.recipes import list_recipes
from zeroseg_jax.data.benchmarks import BENCHMARKS, FILES
from zeroseg_jax.inference.preset_table import PROTOCOLS
from zeroseg_jax.teacher.aliases import ALIASES

_BASH = """# zeroseg completion for bash
_zeroseg() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" flag="" flags="" values=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
    return
  fi
  # bash splits --flag=value at the sign.
  if [ "$word" = "=" ]; then
    flag="${{COMP_WORDS[COMP_CWORD-1]}}" word=""
  elif [ "${{COMP_WORDS[COMP_CWORD-1]}}" = "=" ]; then
    flag="${{COMP_WORDS[COMP_CWORD-2]}}"
  fi
  case "${{COMP_WORDS[1]}}$flag" in
{values}
  esac
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [ -n "$values" ]; then
    COMPREPLY=($(compgen -W "$values" -- "$word"))
    return
  fi
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -o bashdefault -F _zeroseg zeroseg
"""
_ZSH = """#compdef zeroseg
_zeroseg() {{
  local -a words_of flags values
  if (( CURRENT == 2 )); then
    words_of=({verbs})
    _describe verb words_of
    return
  fi
  case "${{words[2]}}${{words[CURRENT]%%=*}}" in
{values}
  esac
  case "${{words[2]}}" in
{cases}
  esac
  if [[ "${{words[CURRENT]}}" == *=* ]] && (( $#values )); then
    compset -P "*="
    compadd -- $values
  elif [[ "${{words[CURRENT]}}" == -* ]]; then
    compadd -- $flags
  else
    _files
  fi
}}
if [ "$funcstack[1]" = "_zeroseg" ]; then _zeroseg "$@"; else compdef _zeroseg zeroseg; fi
"""
SHELLS = ("bash", "zsh", "fish")


def define_flags() -> None:
    """Define no flags: the only argument is the name of the shell."""


def main(arguments: list[str]) -> None:
    """Print the completion script of one shell."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise ValueError(f"completion: give one shell of {', '.join(SHELLS)}.")
    print(render_script(arguments[0]), end="")


def list_flags(verb: str) -> dict[str, absl_flags.Flag]:
    """Return the flags of a command; none if its extra is not installed."""
    try:
        return define_alone(load_verb(verb)[1])
    except ModuleNotFoundError as error:
        if not explain_missing(error, verb):
            raise
        return {}


def list_values(verb: str, flag: absl_flags.Flag) -> list[str]:
    """Return the values to offer for a flag of a command; empty for any other text."""
    if isinstance(flag, absl_flags.EnumFlag):
        return list(flag.parser.enum_values)
    known = {
        "config": list_recipes() if verb != "convert_teacher" else [],
        "benchmark": [*BENCHMARKS, *FILES],
        "preset": list(PROTOCOLS),
        "model": [*ALIASES, "playground"],
        "device": list(DEVICES),
    }
    return known.get(flag.name, [])


def render_script(shell: str) -> str:
    """Return the completion script of `shell`, with the flags of every command."""
    flags = {verb: list_flags(verb) for verb in VERBS}
    values = {
        (verb, name): found
        for verb, own in flags.items()
        for name, flag in own.items()
        if (found := list_values(verb, flag))
    }
    if shell == "fish":
        return _render_fish(flags, values)
    cases = []
    for verb, own in flags.items():
        names = " ".join(f"--{name}" for name in (*own, "help"))
        value = f'"{names}"' if shell == "bash" else f"({names})"
        cases.append(f"    {verb}) flags={value} ;;")
    offers = []
    for (verb, name), found in values.items():
        text = f'"{" ".join(found)}"' if shell == "bash" else f"({' '.join(found)})"
        offers.append(f"    {verb}--{name}) values={text} ;;")
    if shell == "bash":
        return _BASH.format(verbs=" ".join(VERBS), cases="\n".join(cases), values="\n".join(offers))
    described = " ".join(f'"{verb}:{purpose}"' for verb, (purpose, _) in VERBS.items())
    return _ZSH.format(verbs=described, cases="\n".join(cases), values="\n".join(offers))


def _render_fish(
    flags: dict[str, dict[str, absl_flags.Flag]], values: dict[tuple[str, str], list[str]]
) -> str:
    lines = ["# zeroseg completion for fish"]
    for verb, (purpose, _) in VERBS.items():
        lines.append(
            f"complete -c zeroseg -f -n __fish_use_subcommand -a {verb} -d {_quote(purpose)}"
        )
    for verb, own in flags.items():
        here = f"complete -c zeroseg -n '__fish_seen_subcommand_from {verb}' -l"
        for name, flag in own.items():
            line = f"{here} {name} -d {_quote(str(flag.help))}"
            if found := values.get((verb, name)):
                line += f" -x -a {_quote(' '.join(found))}"
            elif not flag.boolean:
                line += " -r"
            lines.append(line)
        lines.append(f"{here} help -d 'list the flags'")
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
