package postfix

// Parameters that a version of Postfix does not know yet, or no longer wants.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// introduced are parameters of this field that old versions do not know, with
// the releases that brought them, the last of which began a line. What we ask
// for ourselves is judged where it belongs.
var introduced = map[string][]string{
	"cleanup_replace_stray_cr_lf":               normalizeSince,
	"lmtp_dns_support_level":                    {"2.11.0"},
	"local_login_sender_maps":                   {"3.6.0"},
	"postscreen_allowlist_interfaces":           {"3.6.0"},
	"postscreen_denylist_action":                {"3.6.0"},
	"postscreen_dnsbl_allowlist_threshold":      {"3.6.0"},
	"smtp_dns_support_level":                    {"2.11.0"},
	"smtpd_forbid_bare_newline_reject_code":     normalizeSince,
	"smtpd_forbid_unauth_pipelining":            {"3.5.20", "3.6.10", "3.7.6", "3.8.1", "3.9.0"},
	"smtpd_hide_client_session":                 {"3.10.0"},
	"smtpd_milter_maps":                         {"3.2.0"},
	"smtpd_per_request_deadline":                {"3.7.0"},
	"smtpd_relay_before_recipient_restrictions": {"3.6.0"},
	"smtpd_relay_restrictions":                  {"2.10.0"},
}

// replacement is what takes the place of an old parameter.
type replacement struct {
	since string
	name  string            // "" for nothing
	value map[string]string // of the new one by that of the old one; nil: the same
}

var useTLS = map[string]string{"yes": "may", "no": "none"}
var enforceTLS = map[string]string{"yes": "encrypt", "no": "none"}

var deprecated = map[string]replacement{
	"disable_dns_lookups":                      {"3.9.0", "smtp_dns_support_level", map[string]string{"yes": "disabled", "no": "enabled"}},
	"smtp_use_tls":                             {"3.9.0", "smtp_tls_security_level", useTLS},
	"smtpd_use_tls":                            {"3.9.0", "smtpd_tls_security_level", useTLS},
	"lmtp_use_tls":                             {"3.9.0", "lmtp_tls_security_level", useTLS},
	"smtp_enforce_tls":                         {"3.9.0", "smtp_tls_security_level", enforceTLS},
	"smtpd_enforce_tls":                        {"3.9.0", "smtpd_tls_security_level", enforceTLS},
	"lmtp_enforce_tls":                         {"3.9.0", "lmtp_tls_security_level", enforceTLS},
	"smtpd_tls_dh1024_param_file":              {since: "3.9.0"},
	"smtpd_tls_eecdh_grade":                    {since: "3.9.0"},
	"authorized_verp_clients":                  {"3.11.0", "smtpd_authorized_verp_clients", nil},
	"fallback_relay":                           {"3.11.0", "smtp_fallback_relay", nil},
	"lmtp_cname_overrides_servername":          {since: "3.11.0"},
	"lmtp_per_record_deadline":                 {"3.11.0", "lmtp_per_request_deadline", nil},
	"postscreen_blacklist_action":              {"3.11.0", "postscreen_denylist_action", nil},
	"postscreen_dnsbl_ttl":                     {"3.11.0", "postscreen_dnsbl_max_ttl", nil},
	"postscreen_dnsbl_whitelist_threshold":     {"3.11.0", "postscreen_dnsbl_allowlist_threshold", nil},
	"postscreen_whitelist_interfaces":          {"3.11.0", "postscreen_allowlist_interfaces", nil},
	"smtp_cname_overrides_servername":          {since: "3.11.0"},
	"smtp_per_record_deadline":                 {"3.11.0", "smtp_per_request_deadline", nil},
	"smtpd_client_connection_limit_exceptions": {"3.11.0", "smtpd_client_event_limit_exceptions", nil},
	"smtpd_per_record_deadline":                {"3.11.0", "smtpd_per_request_deadline", nil},
	"virtual_maps":                             {"3.11.0", "virtual_alias_maps", nil},
}

// checkVersion goes through all that is set, in main.cf and for services.
func (c *checker) checkVersion() {
	if !c.system.Version.known() {
		return
	}
	c.checkNames(nil, c.system.Main)
	for _, v := range c.system.Services {
		c.checkNames(v, v.options())
	}
}

func (c *checker) checkNames(v *Service, set map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		f := Finding{Where: "main.cf", Mend: []Edit{dropMain(name)}}
		if v != nil {
			f.Where, f.Mend = v.place(), []Edit{v.drop(name)}
		}
		old, isOld := deprecated[name]
		switch releases := introduced[name]; {
		case releases != nil && !c.system.Version.has(releases...):
			f.Rule, f.What = "parameter-unknown", fmt.Sprintf("Postfix %s does not know %s", c.system.Version, name)
			f.Why = "Postfix passes over it without a word, so what it stands for is not in force."
		case isOld && c.system.Version.has(old.since):
			f.Rule, f.What = "parameter-deprecated", fmt.Sprintf("%s is deprecated since Postfix %s", name, strings.TrimSuffix(old.since, ".0"))
			f.Why = "Postfix warns of it, and a later version will not have it."
			f.Mend = append(c.replace(v, old, set[name]), f.Mend...)
		default:
			continue
		}
		c.add(f)
	}
}

// replace sets the new parameter, unless it is set already.
func (c *checker) replace(v *Service, old replacement, value string) []Edit {
	name := old.name
	if v != nil && v.Command == "lmtp" {
		name = strings.Replace(name, "smtp_", "lmtp_", 1)
	}
	if old.value != nil {
		value = old.value[strings.ToLower(value)]
	}
	_, inMain := c.system.Main[name]
	switch {
	case name == "" || value == "" || v != nil && v.overrides(name) || v == nil && inMain:
		return nil
	case v == nil:
		return []Edit{setMain(name, value)}
	}
	return []Edit{v.set(name, value)}
}
