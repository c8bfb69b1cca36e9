cursor=0
while :; do
    data=
    while IFS= read -r line; do
        case $line in
            'id: '*) id=${line#id: } ;;
            'data: '*) data=${line#data: } ;;
            'status: '*) status=${line#status: } ;;
            '') [[ $data ]] && printf '%s\n' "$data" && cursor=$id && data= ;;
        esac
    done < <(curl -sN -H "Last-Event-ID: $cursor" -w '\nstatus: %{http_code}\n' "$1")
    case $status in
        200 | 000) sleep 2 ;;  # the stream has ended, or broke off: read on
        *) break ;;            # 204: everything was read
    esac
done
