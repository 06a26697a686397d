# Reads one HTTP request from standard input: METHOD, TARGET, LENGTH. Sourced by handle.
read_request() {
    IFS=' ' read -r METHOD TARGET _ || exit 0
    LENGTH=0
    while IFS=': ' read -r name value; do
        value=${value%$'\r'}
        case "$name" in
            ''|$'\r') break ;;
            [Cc]ontent-[Ll]ength) LENGTH=$value ;;
        esac
    done
    case "$LENGTH" in *[!0-9]*|'') LENGTH=0 ;; esac
    [ "$LENGTH" -le 65536 ] || answer '413 Payload Too Large' text/plain 'at most 65536 bytes'
}

# answer STATUS TYPE BODY [HEADER]
answer() {
    printf 'HTTP/1.0 %s\r\nContent-Type: %s\r\nContent-Length: %s\r\nConnection: close\r\n%s\r\n%s' \
        "$1" "$2" "$(printf '%s' "$3" | wc -c)" "${4:+$4
}" "$3"
    exit 0
}
