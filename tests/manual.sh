#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Checks the manual pages in a directory; prints what is wrong.
#   tests/manual.sh lint|references|options|names_of_ours DIRECTORY
set -u
what=$1
pages=$2
bin=${PGQRS_TEST_BUILD-build}/bin
wrong=0

say() {
    echo "$*"
    wrong=1
}

lint() {
    local page said
    for page in "$pages"/*.[1-8]; do
        mandoc -T lint -W warning "$page" || wrong=1
        said=$(LC_ALL=C.UTF-8 man --warnings -E UTF-8 -l -Z "$page" 2>&1 >/dev/null)
        [ -z "$said" ] || say "$page: $said"
    done
}

# The names that a page has, as NAME.SECTION.
names() {
    local page
    for page in "$pages"/*.[1-8]; do
        sed -n "/^\.Sh NAME/,/^\.Nd/s/^\.Nm \([a-z_.-]*\).*/\1.${page##*.}/p" "$page"
        echo "${page##*/}"
    done
}

references() {
    local page reference known
    known=$(names)
    for page in "$pages"/*.[1-8]; do
        [ "${page##*.}" = "$(sed -n 's/^\.Dt [A-Z0-9_.-]* //p' "$page")" ] ||
            say "$page: another section in .Dt"
        for reference in $(sed -n 's/^\.Xr \([a-z][a-z_.-]*\) \([1-8]\).*/\1.\2/p' "$page"); do
            case $reference in
            pgqrs* | libpgqrs*)
                grep -qxF "$reference" <<<"$known" || say "$page: there is no $reference"
                ;;
            esac
        done
    done
}

# The long options that a program or command explains in its help.
helped() { "$@" --help | sed -n 's/^  \(-., \|    \)--\([a-z-]*\).*/\2/p' | sort -u; }
# Those that are marked up in a piece of a page.
marked() { grep -o 'Fl -[a-z][a-z-]*' | sed 's/Fl -//' | sort -u; }
# What is said of a command: from its item to the next.
item() {
    awk -v command="$1" '
        /^\.It Cm / || /^\.It Xo/ { on = 0 }
        /^\.Sh / { on = 0 }
        index($0 " ", ".It Cm " command " ") == 1 { on = 1 }
        /^\.It Xo/ { held = 1; next }
        held { held = 0; if (index($0 " ", ".Cm " command " ") == 1) { on = 1 } }
        on' "$pages/pgqrs.1"
}
missing() { # those of $1 that are not in $2, with what to say of them
    local option
    for option in $(comm -23 <(echo "$1") <(echo "$2")); do
        say "$3 --$option"
    done
}

options() {
    local command every said
    local common=$'all\nbefore\nconfig\ndsn\nhelp\nlimit\noutput\nschema\nsocket\nversion\nwatch\nyes'
    missing "$(helped "$bin/pgqrsd")" "$(marked <"$pages/pgqrsd.8")" "pgqrsd.8 has no"
    missing "$(sed -n 's/^\.It Fl /Fl /p' "$pages/pgqrsd.8" | marked)" "$(helped "$bin/pgqrsd")" \
        "pgqrsd --help has no"
    every=$("$bin/pgqrs" --help | sed -n '/^options/q; s/^  \([a-z][a-z-]* [a-z-]*\).*/\1/p' | sed 's/ *$//')
    while read -r command; do
        said=$(item "$command")
        [ -n "$said" ] || say "pgqrs.1 has no command $command"
        # shellcheck disable=SC2086 # it is words
        helped=$(helped "$bin/pgqrs" $command)
        missing "$(comm -23 <(echo "$helped") <(echo "$common"))" "$(marked <<<"$said")" \
            "pgqrs.1: $command has no"
        case $said in *.Xc*) said=${said%%.Xc*} ;; *) said=${said%%$'\n'*} ;; esac # the synopsis
        missing "$(marked <<<"$said")" "$helped" "pgqrs $command --help has no"
    done <<<"$every"
}

# Every function of libpgqrs and every metric of the gateway is explained.
names_of_ours() {
    local name known
    known=$(names)
    for name in $(sed -n 's/^ *\(pgqrs_[a-z_]*\);$/\1/p' lib/libpgqrs.map); do
        grep -qxF "$name.3" <<<"$known" || say "there is no page for $name"
    done
    for name in $(grep -oh '"pgqrs_[a-z_]*[a-z]' gateway/*.c | sed 's/"//' | sort -u); do
        grep -q "$name" "$pages/pgqrs-gateway.8" || say "pgqrs-gateway.8 has no $name"
    done
}

"$what"
exit $wrong
