// verify-log checks a log with the Go team's own golang.org/x/mod/sumdb (Debian: golang-golang-x-mod-dev) and
// nothing of Bulkhead.
//
//	verify-log DIRECTORY KEY [KEPT]
//
// KEY is the log's verifier key and KEPT a file with an earlier checkpoint, both from elsewhere than the log's host.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// disk reads hash tiles; the package checks them against the checkpoint's root.
type disk string

func (d disk) Height() int                        { return 8 }
func (d disk) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (d disk) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range tiles {
		tile, err := os.ReadFile(filepath.Join(string(d), strings.Replace(t.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		all = append(all, tile)
	}
	return all, nil
}

func fail(err error) {
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

// checkpoint opens a signed note of origin, size and root.
func checkpoint(file string, key note.Verifier) (string, int64, tlog.Hash) {
	signed, err := os.ReadFile(file)
	fail(err)
	opened, err := note.Open(signed, note.VerifierList(key))
	fail(err)
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != key.Name() {
		fail(fmt.Errorf("%s: no checkpoint of %s", file, key.Name()))
	}
	var size int64
	_, err = fmt.Sscan(lines[1], &size)
	fail(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	fail(err)
	if len(root) != tlog.HashSize {
		fail(fmt.Errorf("%s: no root", file))
	}
	return lines[0], size, tlog.Hash(*(*[tlog.HashSize]byte)(root))
}

// pruned says from which record on a log is there.
func pruned(file string, key note.Verifier) (first int64) {
	signed, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	fail(err)
	opened, err := note.Open(signed, note.VerifierList(key))
	fail(err)
	_, err = fmt.Sscanf(opened.Text, "pruned "+key.Name()+"\n%d\n", &first)
	fail(err)
	return first
}

func main() {
	dir := os.Args[1]
	key, err := note.NewVerifier(os.Args[2])
	fail(err)
	origin, size, root := checkpoint(filepath.Join(dir, "checkpoint"), key)
	fmt.Printf("checkpoint of %s: %d records, signature good\n", origin, size)
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, disk(dir))
	first := pruned(filepath.Join(dir, "pruned"), key)
	for bundle := first / 256; bundle*256 < size; bundle++ {
		width := size - bundle*256
		if width > 256 {
			width = 256
		}
		tile := tlog.Tile{H: 8, L: 0, N: bundle, W: int(width)}
		data, err := os.ReadFile(filepath.Join(dir, strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)))
		fail(err)
		indices := make([]int64, width)
		for i := range indices {
			indices[i] = tlog.StoredHashIndex(0, bundle*256+int64(i))
		}
		leaves, err := hashes.ReadHashes(indices)
		fail(err)
		for i, leaf := range leaves {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				fail(fmt.Errorf("record %d is cut short", bundle*256+int64(i)))
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			if tlog.RecordHash(data[2:end]) != leaf {
				fail(fmt.Errorf("record %d was altered", bundle*256+int64(i)))
			}
			data = data[end:]
		}
		if len(data) > 0 {
			fail(fmt.Errorf("more follows record %d", bundle*256+width-1))
		}
	}
	fmt.Printf("all records from %d to %d match\n", first, size-1)
	if len(os.Args) > 3 {
		_, old, oldRoot := checkpoint(os.Args[3], key)
		proof, err := tlog.ProveTree(size, old, hashes)
		fail(err)
		fail(tlog.CheckTree(proof, size, root, old, oldRoot))
		fmt.Printf("the log continues the kept checkpoint of %d records\n", old)
	}
}
