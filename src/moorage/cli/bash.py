r"""How does bash complete words that it has cut at their colons?

For readline `:` ends a word (COMP_WORDBREAKS): of `ls prod:mod` bash makes `prod`, `:` and `mod`, asks for completions
of `mod`, and puts them in the place of `mod`. Typer's script knows nothing of this, so no location was ever completed.
This one, which takes its place, joins what no blank parts before it asks, and takes off again what bash leaves
standing. What ends in `:` or `/` is to be typed on, so no blank follows it, and names are quoted as the shell needs
them.

zsh and fish know no such cuts; typer's own scripts are right there.

Source: bash(1), "Programmable Completion"; `__ltrimcolonprefixes` of bash-completion 2.11.
"""

from __future__ import annotations

from typer import (
    _completion_classes,
    _completion_shared,
)  # these have no public names; the pin in pyproject.toml covers it

SCRIPT = r"""
%(complete_func)s() {
    local IFS=$'\n'
    local line=$COMP_LINE rest word part left
    local -a words=()
    for part in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        rest=${line#"${line%%%%[![:space:]]*}"}
        if [[ $rest != "$line" || -z $line || ${#words[@]} -eq 0 ]]; then
            words+=("$part") left=
        else
            left=${words[-1]} words[-1]+=$part
        fi
        line=${rest#"$part"}
    done
    word=${words[-1]}
    [[ $part == : ]] && left=$word
    left=${left//\\/}
    COMPREPLY=( $( env COMP_WORDS="${words[*]}" COMP_CWORD=$(( ${#words[@]} - 1 )) \
                   %(autocomplete_var)s=complete_bash $1 ) )
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/] ]] && compopt -o nospace
    for part in "${!COMPREPLY[@]}"; do
        COMPREPLY[part]=${COMPREPLY[part]#"$left"}
        [[ $word == [\"\']* ]] || printf -v "COMPREPLY[part]" '%%q' "${COMPREPLY[part]}"
    done
    return 0
}

complete -o default -F %(complete_func)s %(prog_name)s
"""


def use_own_script() -> None:
    """Let typer install, show and source this script for bash."""
    _completion_shared._completion_scripts["bash"] = SCRIPT  # noqa: SLF001  # there is no other way to give it one
    _completion_classes.BashComplete.source_template = SCRIPT
