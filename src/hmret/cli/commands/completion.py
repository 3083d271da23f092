"""`completion`: scripts for shell completion of commands and options."""

import re
from typing import Annotated, Literal

from cyclopts import Parameter

from hmret.cli.display.output import write_result
from hmret.cli.image_names import COMPLETED, TIME_SECONDS
from hmret.cli.parsing.app import make_app
from hmret.cli.parsing.command_table import GROUPS, WITHOUT_VALUE

Shell = Literal["bash", "zsh", "fish"]
"""A supported shell."""

# The bash script offers paths as plain words; with `-o filenames`, folders get a slash and no space.
_PATHS = "COMPREPLY=( $(compgen -f "
_PATHS_AS_SUCH = f"compopt -o filenames; {_PATHS}"


# Image names come from the running engine; a lookup that takes longer than a person would wait is abandoned.
# Shells split words at colons, so the whole word is taken from the line, and the part that the shell keeps is
# removed again.
_BASH_IMAGES = """
_hmret_images() {
  _hmret "$@"
  local cur="${COMP_WORDS[COMP_CWORD]}" word line="${COMP_LINE:0:COMP_POINT}" command=""
  [[ ${#COMPREPLY[@]} -gt 0 || "$cur" == -* ]] && return
  [[ "${COMP_WORDS[COMP_CWORD-1]}" == --* && "${COMP_WORDS[COMP_CWORD-1]}" != --@(@FLAGS@) ]] && return
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ "$word" == @(@COMMANDS@) ]] && { command="$word"; break; }
  done
  [[ -z "$command" ]] && return
  local begun="${line##*[[:space:]]}"
  [[ "$cur" == [:@=] ]] && cur=""
  local kept="${begun%"$cur"}" name
  while IFS= read -r name; do
    COMPREPLY+=("${name#"$kept"}")
  done < <(timeout @SECONDS@ hmret --complete-images "$command" "$begun" "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)
}

complete -F _hmret_images hmret
"""
_ZSH_IMAGES = """\
  _hmret_images() {
    local -a names
    names=(${(f)"$(timeout @SECONDS@ hmret --complete-images $1 "${(Q)PREFIX}" ${(Q)words[2,CURRENT-1]} 2>/dev/null)"})
    (( $#names )) && compadd -- $names
  }

"""
_FISH_IMAGES = """
function __hmret_images
    set -l words (commandline -opc)
    timeout @SECONDS@ hmret --complete-images $argv[1] (commandline -ct) $words[2..] 2>/dev/null
end
"""
_FISH_IMAGE = "complete -c hmret -n '__fish_hmret_using_command {0}' -f -a '(__hmret_images {1})'\n"
# The description of an image in zsh's script, behind which its action goes.
_ZSH_IMAGE = re.compile(r"^( +'1:A reference by tag [^'\n]*)'", re.MULTILINE)


def completion(shell: Annotated[Shell, Parameter(name="SHELL", help="The shell to print it for.")], /) -> int:
    """Print a shell's completion script for commands, options, their values, and the running engine's images."""
    script = make_app().generate_completion(shell=shell).replace(_PATHS, _PATHS_AS_SUCH)
    write_result(_with_images(shell, script).replace("@SECONDS@", str(TIME_SECONDS)))
    return 0


def _with_images(shell: Shell, script: str) -> str:
    match shell:
        case "bash":
            own = _BASH_IMAGES.replace("@COMMANDS@", "|".join(COMPLETED))
            return script + own.replace(
                "@FLAGS@", "|".join(flag.removeprefix("--") for flag in WITHOUT_VALUE)
            )
        case "fish":
            return (
                script
                + _FISH_IMAGES
                + "".join(_FISH_IMAGE.format(_path_of(name), name) for name in COMPLETED)
            )
        case "zsh":
            # In the one function of the file: zsh calls it when it loads it, but not if there is another
            # beside it.
            start = "_cyclopts_hmret() {\n"
            return _in_each_command(script).replace(start, f"{start}{_ZSH_IMAGES}", 1)


def _path_of(command: str) -> str:
    """Return a command as it is typed: behind the name of its group, if it is in one."""
    groups = [group for group, commands in GROUPS.items() if command in commands]
    return " ".join([*groups, command])


def _in_each_command(script: str) -> str:
    """Add the completion of images to the image argument of each command in zsh's script."""
    parts = re.split(r"(?m)^((?: {8}| {16})[a-z-]+\)\n)", script)
    for index in range(1, len(parts), 2):
        command = parts[index].strip(" )\n")
        if command in COMPLETED:
            parts[index + 1] = _ZSH_IMAGE.sub(rf"\1:{{_hmret_images {command}}}'", parts[index + 1])
    return "".join(parts)
