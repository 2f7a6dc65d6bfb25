"""Shell completion of commands, flags and file names: zeroseg completion bash.

bash: zeroseg completion bash > ~/.local/share/bash-completion/completions/zeroseg
zsh:  zeroseg completion zsh > ~/.zfunc/_zeroseg, with fpath=(~/.zfunc $fpath) in ~/.zshrc
"""

from __future__ import annotations

from zeroseg_jax.commands.flags import define_alone
from zeroseg_jax.commands.main import VERBS, load_verb

_BASH = """# zeroseg completion for bash
_zeroseg() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" flags=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -o bashdefault -F _zeroseg zeroseg
"""
_ZSH = """#compdef zeroseg
_zeroseg() {{
  local -a words_of flags
  if (( CURRENT == 2 )); then
    words_of=({verbs})
    _describe verb words_of
    return
  fi
  case "${{words[2]}}" in
{cases}
  esac
  if [[ "${{words[CURRENT]}}" == -* ]]; then
    compadd -- $flags
  else
    _files
  fi
}}
if [ "$funcstack[1]" = "_zeroseg" ]; then _zeroseg "$@"; else compdef _zeroseg zeroseg; fi
"""
SHELLS = ("bash", "zsh")


def define_flags() -> None:
    """Define no flags: the only argument is the name of the shell."""


def main(arguments: list[str]) -> None:
    """Print the completion script of one shell."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise ValueError(f"completion: give one shell of {', '.join(SHELLS)}.")
    print(render_script(arguments[0]), end="")


def render_script(shell: str) -> str:
    """Return the completion script of `shell`, with the flags of every command."""
    cases = []
    for verb in VERBS:
        _, define = load_verb(verb)
        names = " ".join(f"--{name}" for name in (*define_alone(define), "help"))
        value = f'"{names}"' if shell == "bash" else f"({names})"
        cases.append(f"    {verb}) flags={value} ;;")
    if shell == "bash":
        return _BASH.format(verbs=" ".join(VERBS), cases="\n".join(cases))
    described = " ".join(f'"{verb}:{purpose}"' for verb, (purpose, _) in VERBS.items())
    return _ZSH.format(verbs=described, cases="\n".join(cases))
