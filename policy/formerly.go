package policy

// What the settings are called in Amavis, for those who come from there and
// write its words.

import (
	"slices"
	"strings"
)

// formerly has our key for each variable of Amavis that has one, without the
// endings that formerName cuts off.
var formerly = map[string]string{
	"mydomain": "domain", "myhostname": "hostname", "mynetworks": "own_networks", "local_domains": "local_domains",
	"client_ipaddr_policy": "client_banks", "policy_bank": "banks", "interface_policy": "listeners",
	"author_to_policy_bank": "signer_banks", "inet_socket_port": "listeners", "inet_socket_bind": "listeners",
	"listen_sockets": "listeners", "unix_socketname": "listeners",
	"forward_method": "forward_to", "notify_method": "notify_to", "virus_scanners_failure_is_fatal": "on_error",

	"final_virus_destiny": "virus.destiny", "final_banned_destiny": "banned.destiny", "final_spam_destiny": "spam.destiny",
	"final_bad_header_destiny": "bad_header.destiny", "final_unchecked_destiny": "unchecked.destiny",
	"virus_admin": "virus.admin", "banned_admin": "banned.admin", "spam_admin": "spam.admin",
	"bad_header_admin": "bad_header.admin", "unchecked_admin": "unchecked.admin",
	"virus_lovers": "virus.lover", "banned_files_lovers": "banned.lover", "spam_lovers": "spam.lover",
	"bad_header_lovers": "bad_header.lover", "unchecked_lovers": "unchecked.lover",
	"bypass_virus_checks": "virus.bypass", "bypass_banned_checks": "banned.bypass", "bypass_spam_checks": "spam.bypass",
	"bypass_header_checks": "bad_header.bypass", "viruses_that_fake_sender": "virus.fakes_sender",
	"virus_name_to_spam_score": "virus.names",
	"banned_filename":          "banned.rules", "banned_rules": "banned.rules", "banned_namepath": "banned.rules",
	"sa_tag_level": "spam.tag_level", "sa_tag2_level": "spam.tag2_level", "sa_kill_level": "spam.kill_level",
	"spam_tag_level": "spam.tag_level", "spam_tag2_level": "spam.tag2_level", "spam_kill_level": "spam.kill_level",
	"sa_dsn_cutoff_level": "spam.dsn_cutoff_level", "spam_dsn_cutoff_level": "spam.dsn_cutoff_level",
	"sa_tag3_level": "spam.tag3_level", "spam_tag3_level": "spam.tag3_level", "sa_spam_subject_tag3": "spam.tag3_subject_tag",
	"spam_subject_tag2": "spam.subject_tag", "spam_subject_tag3": "spam.tag3_subject_tag",
	"sa_quarantine_cutoff_level": "spam.quarantine_cutoff_level", "spam_quarantine_cutoff_level": "spam.quarantine_cutoff_level",
	"addr_extension_virus": "virus.address_extension", "addr_extension_banned": "banned.address_extension",
	"addr_extension_spam": "spam.address_extension", "addr_extension_bad_header": "bad_header.address_extension",
	"whitelist_sender": "spam.sender_list", "blacklist_sender": "spam.sender_list", "score_sender": "spam.sender_list",
	"sa_spam_subject_tag": "spam.subject_tag", "undecipherable_subject_tag": "unchecked.subject_tag",
	"myauthservid": "authserv_id", "enable_dkim_signing": "dkim.sign", "enable_dkim_verification": "dkim.verify", "dkim_key": "dkim_keys",

	"virus_quarantine_to": "virus.quarantine", "banned_quarantine_to": "banned.quarantine", "spam_quarantine_to": "spam.quarantine",
	"bad_header_quarantine_to": "bad_header.quarantine", "unchecked_quarantine_to": "unchecked.quarantine",
	"warnvirusrecip": "virus.warn_recipient", "warnbannedrecip": "banned.warn_recipient", "warnbadhrecip": "bad_header.warn_recipient",
	"message_size_limit": "message_size", "auth_required_release": "auth_required_release",

	"av_scanners": "engines", "av_scanners_backup": "engines", "spam_scanners": "engines",
	"log_level": "log.level", "logfile": "log.to", "do_syslog": "log.to", "syslog_ident": "log.ident",
	"quarantinedir": "quarantine.dir", "tempbase": "spool.dir", "hdrfrom_notify_sender": "notify_from",
	"hdrfrom_notify_admin": "notify_from", "max_servers": "limits.sessions", "smtpd_timeout": "limits.idle",
	"child_timeout": "limits.deadline", "smtpd_message_size_limit": "limits.message_size",
	"smtpd_recipient_limit": "limits.recipients", "maxlevels": "limits.unpack.nesting", "maxfiles": "limits.unpack.entries",
	"max_expansion_quota": "limits.unpack.size", "max_expansion_factor": "limits.unpack.ratio",
}

// formerHint says what a variable of Amavis is called here, "" for other words.
func formerHint(word string) string {
	key := formerly[formerName(word)]
	switch {
	case key == "":
		return ""
	case slices.Contains(SettingsKeys(), key):
		return "a word of Amavis: here it is " + key + ", in settings or a bank"
	}
	return "a word of Amavis: here it is " + key + ", at the top of the file"
}

// formerName cuts off what does not tell variables of Amavis apart.
func formerName(word string) string {
	word = strings.ToLower(strings.TrimLeft(word, "$@%"))
	for _, end := range []string{"_by_ccat", "_maps", "_acl", "_re", "_deflt"} {
		word = strings.TrimSuffix(word, end)
	}
	return word
}
