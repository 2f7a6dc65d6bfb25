"""Print a script that completes verbs, flags and files: zeroseg completion bash.

bash: zeroseg completion bash > ~/.local/share/bash-completion/completions/zeroseg
zsh:  zeroseg completion zsh > ~/.zfunc/_zeroseg, with fpath=(~/.zfunc $fpath) in ~/.zshrc
"""

from __future__ import annotations

from zeroseg_jax.commands import main as cli

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
    """Define the command line: there is nothing but the shell's name."""


def main(arguments: list[str]) -> None:
    """Print the script for one shell."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise ValueError(f"completion: give one shell of {', '.join(SHELLS)}.")
    print(write_script(arguments[0]), end="")


def write_script(shell: str) -> str:
    """Write the script, with the flags of every verb that is there."""
    verbs = cli.list_verbs()
    cases = []
    for verb in verbs:
        _, define = cli.load_verb(verb)
        names = " ".join(f"--{name}" for name in (*cli.define_alone(define), "help"))
        cases.append(f'    {verb}) flags="{names}" ;;' if shell == "bash" else
                     f"    {verb}) flags=({names}) ;;")  # fmt: skip
    if shell == "bash":
        return _BASH.format(verbs=" ".join(verbs), cases="\n".join(cases))
    described = " ".join(f'"{verb}:{cli.VERBS[verb][0]}"' for verb in verbs)
    return _ZSH.format(verbs=described, cases="\n".join(cases))
