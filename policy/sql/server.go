package sql

// The real servers, by the drivers of database/sql.

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"postern/policy"
)

// OptionsOf reads the address of the server, and returns what a source is made of
// by cfg; nil if it has no database. It connects to nothing.
func OptionsOf(cfg *policy.Config) (*Options, error) {
	if cfg.Lookups.SQL.Type == policy.NoSQL {
		return nil, nil
	}
	o := &Options{SQLLookup: cfg.Lookups.SQL, delimiter: cfg.RecipientDelimiter, origin: cfg.Origin("lookups.sql")}
	at := cmp.Or(cfg.Origin("lookups.sql.dsn").String(), "lookups.sql")
	if path, ok := strings.CutPrefix(o.DSN, "file:"); ok {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: lookups.sql.dsn: %w", at, err)
		}
		o.address = strings.TrimSpace(string(data))
	} else {
		o.address = os.Getenv(strings.TrimPrefix(o.DSN, "env:"))
	}
	if o.address == "" {
		return nil, fmt.Errorf("%s: lookups.sql.dsn: %s is empty", at, o.DSN)
	}
	return o, nil
}

// Open makes a source. It connects when it is first asked.
func Open(o *Options) (*Source, error) {
	srv, err := newServer(o)
	if err != nil {
		return nil, fmt.Errorf("%s: lookups.sql: %w", o.origin, err)
	}
	return newSource(o, srv, time.Now), nil
}

// database is a server behind a driver.
type database struct {
	db             *sql.DB
	policy, lists  *policy.Query
	mark           func(n int) string // the n-th placeholder, from 1
	mostRows, most int
}

// maxUsers bounds the rows of one recipient.
const maxUsers = 200

func newServer(o *Options) (*database, error) {
	d := &database{mostRows: maxUsers, most: maxList + 1}
	var err error
	if d.policy, err = policy.ParseQuery(o.SelectPolicy); err != nil {
		return nil, err
	}
	if d.lists, err = policy.ParseQuery(o.SelectSenders); err != nil {
		return nil, err
	}
	switch o.Type {
	case policy.PostgreSQL:
		cfg, err := pgx.ParseConfig(o.address)
		if err != nil {
			// the error quotes the address
			return nil, errors.New(`the address of the server is not understood, want "postgres://user:password@host/database" or "host=... dbname=... user=..."`)
		}
		d.db = stdlib.OpenDB(*cfg)
		d.mark = func(n int) string { return "$" + strconv.Itoa(n) }
	default:
		cfg, err := mysql.ParseDSN(o.address)
		if err != nil {
			return nil, errors.New(`the address of the server is not understood, want "user:password@tcp(host:3306)/database" or "user:password@unix(/run/mysqld/mysqld.sock)/database"`)
		}
		cfg.Logger = log.New(io.Discard, "", 0) // what it tells comes back as an error too
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			return nil, err
		}
		d.db = sql.OpenDB(connector)
		d.mark = func(int) string { return "?" }
	}
	d.db.SetMaxOpenConns(o.Connections)
	d.db.SetMaxIdleConns(o.Connections)
	d.db.SetConnMaxIdleTime(time.Minute)
	d.db.SetConnMaxLifetime(10 * time.Minute) // a name may lead to another server by then
	return d, nil
}

// question returns the text of a question for the server, and its values.
func (d *database) question(q *policy.Query, values func(want string) []string) (text string, args []any) {
	text = q.Text(func(want string) string {
		var marks []string
		for _, v := range values(want) {
			args = append(args, v)
			marks = append(marks, d.mark(len(args)))
		}
		return strings.Join(marks, ", ")
	})
	return text, args
}

func (d *database) users(ctx context.Context, k *keys) ([]row, error) {
	text, args := d.question(d.policy, k.values)
	var out []row
	err := d.rows(ctx, text, args, d.mostRows, func(columns []string, values []sql.NullString) error {
		r := row{}
		for i, c := range columns {
			c = strings.ToLower(c)
			delete(r, c) // of two columns with the same name the last counts
			if values[i].Valid {
				r[c] = values[i].String
			}
		}
		out = append(out, r)
		return nil
	})
	return out, err
}

func (d *database) senders(ctx context.Context, id string) ([]listed, error) {
	text, args := d.question(d.lists, func(string) []string { return []string{id} })
	var out []listed
	err := d.rows(ctx, text, args, d.most, func(columns []string, values []sql.NullString) error {
		if len(columns) != 2 {
			return fmt.Errorf("want two columns, the sender and what it is, not %s", strings.Join(columns, ", "))
		}
		if values[0].Valid && values[1].Valid {
			out = append(out, listed{values[0].String, values[1].String})
		}
		return nil
	})
	return out, err
}

// rows calls each for the rows of an answer. An answer that is cut is none.
func (d *database) rows(ctx context.Context, text string, args []any, most int, each func([]string, []sql.NullString) error) (err error) {
	rows, err := d.db.QueryContext(ctx, text, args...)
	if err != nil {
		return refused(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]sql.NullString, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for n := 0; rows.Next(); n++ {
		if n == most {
			return fmt.Errorf("more than %d rows", most)
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := each(columns, values); err != nil {
			return err
		}
	}
	return refused(rows.Err())
}

// oddText are the numbers by which MariaDB refuses text in an encoding that does
// not fit.
var oddText = []uint16{1267, 1270, 1271, 1300, 1366}

// refused marks an error that is about the question: its syntax and names (class
// 42 of SQLSTATE), and its values (class 22).
func refused(err error) error {
	state, odd := "", false
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		state = e.Code
	}
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		state, odd = string(e.SQLState[:]), slices.Contains(oddText, e.Number)
	}
	if odd || strings.HasPrefix(state, "42") || strings.HasPrefix(state, "22") {
		return &refusal{err}
	}
	return err
}

func (d *database) close() error { return d.db.Close() }
