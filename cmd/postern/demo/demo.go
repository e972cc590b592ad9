// Package demo is what stands around the filter in postern demo: the mails that
// are sent, the client that speaks as Postfix does, and a next hop that takes
// everything. The tests of the program use them too. It starts no filter and
// judges nothing: that is done where the command is.
//
// Start with [Mails] and [NextHop].
package demo
