# SPDX-License-Identifier: Apache-2.0
# bash completion for pgqrs. Commands and options are those that pgqrs --help tells; names of queues
# come from the store that the line names.

# The options on the line that say which store it is.
_pgqrs_store()
{
    local i word
    _pgqrs_store_options=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        --dsn | --config | --schema)
            local value=${COMP_WORDS[i + 1]} at=$((i + 1))
            [[ $value == '=' ]] && at=$((i + 2)) && value=${COMP_WORDS[at]}
            # bash may have cut the value at its colons
            while [[ ${COMP_WORDS[at + 1]} == :* || $value == *: ]] && ((at + 1 < COMP_CWORD)); do
                at=$((at + 1))
                value+=${COMP_WORDS[at]}
            done
            _pgqrs_store_options+=("$word" "$value")
            ;;
        esac
    done
}

# The names of queues, or of what $2 says.
_pgqrs_queues()
{
    _pgqrs_store
    "$1" "${_pgqrs_store_options[@]}" "${2:-queue}" list -o json 2>/dev/null </dev/null |
        grep -o '"name":"[^"\\]*"' | cut -d'"' -f4
}

# Adds those of the lines on standard input that begin with the word.
_pgqrs_offer()
{
    local line
    while IFS= read -r line; do
        [[ $line == "$1"* ]] && COMPREPLY+=("$(printf '%q' "$line")")
    done
}

_pgqrs_option_value()
{
    local program=$1 option=$2 group=$3 word=$4
    case $option in
    --queue) _pgqrs_offer "$word" < <(_pgqrs_queues "$program") ;;
    --workflow) _pgqrs_offer "$word" < <(_pgqrs_queues "$program" workflow) ;;
    --catch-up) _pgqrs_offer "$word" < <(printf '%s\n' skip once all) ;;
    --overlap) _pgqrs_offer "$word" < <(printf '%s\n' allow skip) ;;
    --status)
        _pgqrs_offer "$word" < <(printf '%s\n' QUEUED RUNNING PAUSED SUCCESS ERROR CANCELLING \
            CANCELLED)
        ;;
    -o | --output) _pgqrs_offer "$word" < <(printf '%s\n' table json) ;;
    --outcome) _pgqrs_offer "$word" < <(printf '%s\n' done failed cancelled) ;;
    --what) _pgqrs_offer "$word" < <(printf '%s\n' archived pending leased all) ;;
    --config | --socket) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    --state)
        if [[ $group == worker ]]; then
            _pgqrs_offer "$word" < <(printf '%s\n' ready polling suspended interrupted stopped)
        else
            _pgqrs_offer "$word" < <(printf '%s\n' ready delayed leased archived)
        fi
        ;;
    esac
}

_pgqrs()
{
    local program=$1 word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local i words=() values=' -o --output --dsn --config --schema --delay --at --priority --batch
        --wrap --queue --state --outcome --limit --before --timeout --worker --key --unique-key
        --what --older-than --socket --workflow --status --from --input --cron --zone --payload
        --catch-up --overlap -n --count --interval '
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -*) [[ $values == *[[:space:]]"${COMP_WORDS[i]}"[[:space:]]* ]] && i=$((i + 1)) &&
            [[ ${COMP_WORDS[i]} == '=' ]] && i=$((i + 1)) ;;
        : | = | :* | //*) ;; # pieces of a DSN
        *) [[ ${COMP_WORDS[i - 1]} == : ]] || words+=("${COMP_WORDS[i]}") ;;
        esac
    done
    if [[ $word == '=' ]]; then
        word=
    elif [[ $before == '=' ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [[ $values == *[[:space:]]"$before"[[:space:]]* && $before == -* ]]; then
        _pgqrs_option_value "$program" "$before" "${words[0]}" "$word"
    elif [[ $word == -* ]]; then
        _pgqrs_offer "$word" < <("$program" "${words[@]:0:2}" --help 2>/dev/null |
            grep -o '^ *\(-., \)\?--[a-z-]*' | grep -o -- '--[a-z-]*')
    elif ((${#words[@]} == 0)); then
        _pgqrs_offer "$word" < <("$program" --help 2>/dev/null |
            sed -n 's/^  \([a-z][a-z]*\) .*/\1/p' | sort -u)
    elif ((${#words[@]} == 1)); then
        _pgqrs_offer "$word" < <("$program" "${words[0]}" --help 2>/dev/null |
            sed -n "s/^  ${words[0]} \([a-z][a-z]*\) .*/\1/p")
    else
        case "${words[0]} ${words[1]} ${#words[@]}" in
        'queue create '* | 'message enqueue 3') ;;
        'queue delete '* | 'queue pause '* | 'queue resume '* | 'queue purge 2' | \
            'queue metrics 2' | 'queue wait 2' | 'message enqueue 2' | 'worker scale 2' | \
            'ctl deaths 2' | 'ctl kill 2' | \
            'ctl pause 2' | 'ctl resume 2')
            _pgqrs_offer "$word" < <(_pgqrs_queues "$program")
            ;;
        'schedule create '*) ;;
        'schedule pause '* | 'schedule resume '* | 'schedule delete '* | 'schedule run 2' | \
            'schedule next 2')
            _pgqrs_offer "$word" < <(_pgqrs_queues "$program" schedule)
            ;;
        'workflow trigger 2') _pgqrs_offer "$word" < <(_pgqrs_queues "$program" workflow) ;;
        esac
    fi
}

complete -F _pgqrs pgqrs
