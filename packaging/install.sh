#!/bin/sh
# Installs hmret from this checkout, or removes what was installed: what `make install` and `make uninstall` call.
#
#   sh packaging/install.sh install|uninstall
#
# PREFIX: the folder of its own virtual environment, /opt/hmret below ROOT if not given. ROOT: what stands before all other
# paths, for those who pack or try it; nothing of the host's own is touched then. PYTHON: the interpreter, python3 if not
# given.
#
# Nothing is enabled or started. Everything that was put outside PREFIX stands in PREFIX/installed-files, and nothing else
# is ever removed.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root=${ROOT:-}
case $root in
"" | /*) root=${root%/} ;;
*) root=$PWD/${root%/} ;;
esac
prefix=${PREFIX:-$root/opt/hmret}
python=${PYTHON:-python3}
list=$prefix/installed-files

fail() {
    echo "hmret: $1" >&2
    exit 1
}

# Whether this host's own systemd is concerned.
has_systemd() {
    [ -z "$root" ] && [ -d /run/systemd/system ]
}

case $prefix in
/*) ;;
*) fail "PREFIX: expected a path from /, got $prefix" ;;
esac

# put FILE: takes it from standard input, and writes it down.
put() {
    mkdir -p "$(dirname -- "$1")"
    cat >"$1.new"
    chmod 644 "$1.new"
    mv -f "$1.new" "$1"
    grep -qxF -- "$1" "$list" || echo "$1" >>"$list"
}

make_environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "expected Python 3.11 or newer, got $("$python" --version 2>&1); PYTHON=... names another one"
    if [ -e "$prefix" ] && [ ! -e "$prefix/pyvenv.cfg" ] && [ -n "$(ls -A "$prefix")" ]; then
        fail "$prefix is not empty and no installation of hmret; PREFIX=... names another folder"
    fi
    # One that was cut off, or of a Python that has gone, is made again.
    "$prefix/bin/python" -m pip --version >/dev/null 2>&1 && return
    "$python" -m venv --clear "$prefix" || {
        rm -rf "$prefix"
        fail "no virtual environment could be made (Debian and Ubuntu: apt install python3-venv)"
    }
}

# The site that `make docs` has made of these very files, else one that is made now. Where that cannot be done (its tools
# are no part of hmret, and come from the package index), the pages are installed as they are.
install_documents() {
    site=$here/build/site
    made=
    if ! "$python" "$here/packaging/document_sources.py" "$site"; then
        made=$(mktemp -d)
        site=$made/site
        "$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
            --target "$made/tools" -r "$here/packaging/docs.lock" &&
            PYTHONPATH=$made/tools "$prefix/bin/python" "$here/packaging/documents.py" "$site" >/dev/null || {
            echo "hmret: the site of the documents was not made; its pages are in /usr/share/doc/hmret as they are" >&2
            site=
        }
    fi
    if [ -n "$site" ]; then
        pages=$root/usr/share/doc/hmret/html
        mkdir -p "$pages"
        cp -R "$site/." "$pages"
        chmod -R u=rwX,go=rX "$pages"
        find "$pages" -type f >>"$list"
        sort -u -o "$list" "$list"
    else
        for page in "$here"/README.md "$here"/docs/*.md; do
            put "$root/usr/share/doc/hmret/$(basename -- "$page")" <"$page"
        done
    fi
    [ -z "$made" ] || rm -rf -- "$made"
}

install_all() {
    make_environment
    "$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        -r "$here/packaging/requirements.lock"
    "$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$here"
    touch "$list"
    hmret=$prefix/bin/hmret
    mkdir -p "$root/usr/local/bin"
    ln -sfn "$hmret" "$root/usr/local/bin/hmret"
    grep -qxF -- "$root/usr/local/bin/hmret" "$list" || echo "$root/usr/local/bin/hmret" >>"$list"
    "$hmret" unit --data-dir /var/lib/hypeman | put "$root/etc/systemd/system/hmret.service"
    "$hmret" completion bash | put "$root/etc/bash_completion.d/hmret"
    "$hmret" completion fish | put "$root/etc/fish/completions/hmret.fish"
    "$hmret" completion zsh | put "$root/usr/local/share/zsh/site-functions/_cyclopts_hmret"
    put "$root/etc/hmret/config.yaml.example" <"$here/packaging/config.example.yaml"
    "$prefix/bin/python" "$here/packaging/man_pages.py" "$prefix/man"
    for page in "$prefix"/man/man?/*; do
        put "$root/usr/local/share/man/${page#"$prefix/man/"}" <"$page"
    done
    install_documents
    if has_systemd; then systemctl daemon-reload; fi
    cat <<END
$("$hmret" --version) is installed in $prefix. Next:
    hmret check-config                # the settings, and what is probably not meant
    hmret plan                        # what a sweep would do; changes not one byte
    systemctl enable --now hmret      # it deletes nothing until it is allowed to
END
    if has_systemd && systemctl is-active --quiet hmret; then
        echo "    systemctl restart hmret           # an earlier version is running"
    fi
}

uninstall_all() {
    [ -e "$list" ] || fail "$prefix: no installation of hmret; PREFIX=... names another folder"
    if has_systemd; then systemctl disable --now hmret 2>/dev/null || true; fi
    while IFS= read -r file; do
        rm -f -- "$file"
    done <"$list"
    rmdir "$root/etc/hmret" 2>/dev/null || true
    find "$root/usr/share/doc/hmret" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    rm -rf -- "$prefix"
    if has_systemd; then systemctl daemon-reload; fi
    echo "hmret is removed. What stays: its settings, and system/hmret/ in the data directory."
}

case ${1:-} in
install) install_all ;;
uninstall) uninstall_all ;;
*) fail "expected install or uninstall" ;;
esac
