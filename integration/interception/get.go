// What a program in Go does with net/http and nothing set up: get.go METHOD URL [BODY].
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	body := ""
	if len(os.Args) > 3 {
		body = os.Args[3]
	}
	request, err := http.NewRequest(os.Args[1], os.Args[2], strings.NewReader(body))
	if err == nil {
		var answer *http.Response
		if answer, err = http.DefaultClient.Do(request); err == nil {
			defer answer.Body.Close()
			text, _ := io.ReadAll(answer.Body)
			fmt.Printf("%d %s", answer.StatusCode, text)
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
